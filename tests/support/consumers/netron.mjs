// Decodes every constant of a .tflite file as netron shows it.
// node netron.mjs FILE: one JSON object, tensor name -> { type, shape, values, scale, offset, dimension, size }, size
// that of the blocks, 0 where there are none.
// Stands beside copies of netron's modules, in a folder whose package.json says that they are modules.
import * as fs from 'fs';
import * as base from './base.js';
import * as flatbuffers from './flatbuffers.js';
import * as schema from './tflite-schema.js';
import * as tflite from './tflite.js';

const data = new Uint8Array(fs.readFileSync(process.argv[2]));
const reader = () => flatbuffers.BinaryReader.open(data);
const context = {
    type: 'tflite.flatbuffers',
    value: reader(),
    stream: new base.BinaryStream(data),
    require: async () => schema,
    metadata: async () => ({ type: (name) => ({ name }), attribute: () => null })
};
const model = await new tflite.ModelFactory().open(context);
const plain = (value) => typeof value === 'bigint' ? Number(value) : value;
const raw = schema.tflite.Model.create(reader());
const blocks = new Map(); // name -> scales and size of blocks, which netron reads but does not show
for (const { name, quantization } of raw.subgraphs[0].tensors) {
    if (quantization && quantization.details) {
        const tensor = raw.subgraphs[0].tensors[quantization.details.scales];
        const type = { dataType: 'float16', shape: { dimensions: Array.from(tensor.shape) } };
        const values = raw.buffers[tensor.buffer].data;
        const scale = new base.Tensor({ type, encoding: '<', values }).value;
        blocks.set(name, { scale, size: quantization.details.block_size });
    }
}
const found = {};
for (const node of model.modules[0].nodes) {
    for (const value of node.inputs.flatMap((input) => input.value)) {
        const initializer = value.initializer;
        if (initializer) {
            const quantization = value.quantization || {};
            const shared = blocks.get(initializer.name) || { scale: Array.from(quantization.scale || []), size: 0 };
            found[initializer.name] = {
                type: initializer.type.dataType,
                shape: initializer.type.shape.dimensions,
                values: new base.Tensor(initializer).value,
                scale: shared.scale,
                offset: Array.from(quantization.offset || [], plain),
                dimension: quantization.dimension ?? 0,
                size: shared.size
            };
        }
    }
}
process.stdout.write(JSON.stringify(found, (_, value) => plain(value)));
