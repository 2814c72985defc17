"""Small cases of every operator of the op table, on shapes whose sides are coprime."""

import numpy as np

from benchmarks.single_op import Case
from tfq_converters.graph import Options

_RNG = np.random.default_rng(7)


def _w(*shape: int) -> np.ndarray:
    return _RNG.normal(size=shape).astype(np.float32)


def _i(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def _p(*rows: tuple[int, int]) -> np.ndarray:
    return np.array(rows, np.int32)


def _o(kind: str, **values: object) -> Options:
    return Options(kind, values)


X = (2, 5, 7, 9)
E = ("ABS", "EXP", "SIN", "COS")
_ADD = _o("AddOptions", potScaleInt16=False)
_SUB = _o("SubOptions", potScaleInt16=False)
_CONV = {"strideW": 1, "strideH": 1}
_POOL = _o("Pool2DOptions", strideW=2, strideH=2, filterWidth=3, filterHeight=2)
_KEEP = _o("ReducerOptions", keepDims=True)
_DROP = _o("ReducerOptions", keepDims=False)

CASES: dict[str, Case] = {}
def c(name, *inputs, o=None, **k):
    CASES[name] = Case(name.split("/")[0], tuple(np.asarray(i) if isinstance(i, np.generic) else i for i in inputs), o, **k)

for n in "RELU RELU6 RELU_N1_TO_1 RELU_0_TO_1 ELU TANH LOGISTIC HARD_SWISH SIN COS FLOOR ROUND CEIL SQUARE EXP ABS NEG SIGN".split():
    c(n, X)
c("RELU/1d", (1,)); c("RELU/5d",(1,2,3,2,5)); c("EXP/wide", X, low=-8., high=2.)
c("TANH/wide", X, low=-9., high=9.); c("LOGISTIC/wide", X, low=-12., high=12.); c("ELU/wide",X,low=-9.,high=4.);c("HARD_SWISH/wide", X, low=-12., high=12.)
c("TANH/small", X, low=-.3, high=.3); c("LOGISTIC/small", X, low=-.3, high=.4); c("HARD_SWISH/small",X,low=-.3,high=.3)
c("GELU", X, o=_o("GeluOptions")); c("GELU/tanh", X, o=_o("GeluOptions", approximate=True)); c("GELU/wide", X, o=_o("GeluOptions"),low=-9.,high=12.)
for n in "LOG SQRT RSQRT".split(): c(n, X, low=.1, high=5.); c(n+"/wide", X, low=.5, high=50.)
c("SQRT/zero", X, low=0., high=5.);c("RSQRT/zero", X, low=0., high=5.); c("LOG/zero", X, low=0., high=5.)
c("LEAKY_RELU", X, o=_o("LeakyReluOptions", alpha=.2)); c("LEAKY_RELU/neg", X, o=_o("LeakyReluOptions", alpha=-.3)); c("LEAKY_RELU/big", X, o=_o("LeakyReluOptions", alpha=1.7))
c("PRELU", X, _w(1,1,9)*.3); c("PRELU/full", X, _w(5,7,9)*.3); c("PRELU/one", X, np.float32([[[.25]]])); c("PRELU/pos", X, abs(_w(1,1,9)));c("PRELU/1d",X,abs(_w(9)))
for b in (1.,.5): c(f"SOFTMAX/{b}", (3,5,11), o=_o("SoftmaxOptions", beta=b))
c("SOFTMAX/4d", (2,3,5,77), o=_o("SoftmaxOptions", beta=1.), low=-9., high=9.); c("SOFTMAX/2d", (3,1000), o=_o("SoftmaxOptions", beta=1.), low=-20., high=12.); c("SOFTMAX/1d", (37,), o=_o("SoftmaxOptions", beta=1.));c("SOFTMAX/5d", (2,1,3,2,37), o=_o("SoftmaxOptions", beta=1.))
c("SOFTMAX/flat", (2,700), o=_o("SoftmaxOptions", beta=1.), low=-.01, high=.01);c("SOFTMAX/flat400", (2,400), o=_o("SoftmaxOptions", beta=1.), low=-.01, high=.01)
c("LOG_SOFTMAX", (3,5,11), o=_o("LogSoftmaxOptions")); c("LOG_SOFTMAX/wide", (3,100), o=_o("LogSoftmaxOptions"), low=-12., high=9.)
c("L2_NORMALIZATION", X, o=_o("L2NormOptions")); c("L2_NORMALIZATION/2d", (3,77), o=_o("L2NormOptions"));c("L2_NORMALIZATION/1", (3,300), o=_o("L2NormOptions"),low=-.01,high=.02)
for n,o in (("ADD",_ADD),("SUB",_SUB),("MUL",_o("MulOptions")),("DIV",_o("DivOptions")),("MAXIMUM",_o("MaximumMinimumOptions")),("MINIMUM",_o("MaximumMinimumOptions")),("SQUARED_DIFFERENCE",None),("POW",None),("FLOOR_DIV",None),("FLOOR_MOD",None),
    ("EQUAL",None),("NOT_EQUAL",None),("LESS",None),("GREATER",None),("LESS_EQUAL",None),("GREATER_EQUAL",None), ("ATAN2",None)):
    b=n in ("EQUAL","NOT_EQUAL","LESS","GREATER","LESS_EQUAL","GREATER_EQUAL")
    for v,a in {"":(X,X),"/bcast":(X,(1,7,1)),"/bcast2":((5,1,9),X),"/chan":(X,_w(9)),"/scalar":(X,np.float32(1.7)),"/both":((2,5,1,9),(1,5,7,1)),"/scales":(X,X),"/5d":((2,1,3,2,5),(2,4,3,2,1)),"/6d":((2,1,1,3,2,5),(2,4,1,3,2,1))}.items():
        r={1:(-.1,.12)} if v=="/scales" else {}
        if n in("DIV","FLOOR_DIV","FLOOR_MOD"): r={1:(.4,3.)}
        if v in("/chan","/scalar") and n in("DIV","FLOOR_DIV","FLOOR_MOD"): a=(X,abs(a[1])+np.float32(.5))
        c(n+v,*a,o=o,ranges=r,bool_slots=(),low=.2 if n=="POW" else -3.)
c("ADD/relu",X,X,o=_o("AddOptions",potScaleInt16=False,fusedActivationFunction=1));c("MUL/relu6",X,X,o=_o("MulOptions",fusedActivationFunction=3));c("SUB/relu",X,X,o=_o("SubOptions",potScaleInt16=False,fusedActivationFunction=1))
c("ADD/pot",X,X,o=_o("AddOptions",potScaleInt16=True)); c("SUB/pot",X,X,o=_o("SubOptions",potScaleInt16=True))
for n in "MEAN SUM REDUCE_MAX REDUCE_MIN REDUCE_PROD".split():
    hi=1.1 if n=="REDUCE_PROD" else 3.
    c(n,X,_i(-1),o=_DROP,high=hi);c(n+"/keep",X,_i(3),o=_KEEP,high=hi);c(n+"/pool",X,_i(1,2),o=_KEEP,high=hi);c(n+"/pooldrop",X,_i(1,2),o=_DROP,high=hi);c(n+"/all",X,_i(0,1,2,3),o=_DROP,high=hi);c(n+"/3d",(3,7,11),_i(1),o=_DROP,high=hi);c(n+"/2d",(3,11),_i(1),o=_KEEP,high=hi);c(n+"/5d",(2,3,1,5,7),_i(1,3),o=_DROP,high=hi);c(n+"/first",X,_i(0),o=_DROP,high=hi);c(n+"/long",(2,3,501),_i(-1),o=_KEEP,high=hi);c(n+"/scalaraxis",X,np.int32(2),o=_KEEP,high=hi); c(n+"/6d",(2,3,1,5,2,7),_i(1,3),o=_DROP,high=hi);c(n+"/24",X,_i(1,3),o=_KEEP,high=hi)
for n in ("ARG_MAX","ARG_MIN"):
    c(n,X,np.int32(-1),o=_o(("ArgMax" if n=="ARG_MAX" else "ArgMin")+"Options",outputType=2)); c(n+"/mid",X,np.int32(1),o=_o(("ArgMax" if n=="ARG_MAX" else "ArgMin")+"Options",outputType=2))
c("CUMSUM",X,np.int32(1),o=_o("CumsumOptions"))
c("RESHAPE",X,_i(10,63),o=_o("ReshapeOptions",newShape=[10,63])); c("SQUEEZE",(2,1,5,1),o=_o("SqueezeOptions",squeezeDims=[1,3])); c("EXPAND_DIMS",X,np.int32(1),o=_o("ExpandDimsOptions"))
c("TRANSPOSE",X,_i(0,3,1,2),o=_o("TransposeOptions")); c("TRANSPOSE/5d",(2,3,1,5,4),_i(4,0,3,1,2),o=_o("TransposeOptions")); c("TRANSPOSE/6d",(2,3,1,5,4,2),_i(4,0,3,5,1,2),o=_o("TransposeOptions")); c("TRANSPOSE/2d",(7,5),_i(1,0),o=_o("TransposeOptions"))
c("CONCATENATION",X,(2,3,7,9),o=_o("ConcatenationOptions",axis=1)); c("CONCATENATION/last",X,(2,5,7,1),X,o=_o("ConcatenationOptions",axis=-1)); c("CONCATENATION/const",X,_w(2,5,7,3),o=_o("ConcatenationOptions",axis=3)); c("CONCATENATION/many",*[(2,3)]*9,o=_o("ConcatenationOptions",axis=1)); c("CONCATENATION/5d",(2,3,1,2,5),(2,3,4,2,5),o=_o("ConcatenationOptions",axis=2))
c("PACK",X,X,o=_o("PackOptions",valuesCount=2,axis=1)); c("UNPACK",X,o=_o("UnpackOptions",num=5,axis=1),results=5); c("SPLIT",np.int32(3),X,o=_o("SplitOptions",numSplits=3),results=3);c("SPLIT/1",np.int32(1),X,o=_o("SplitOptions",numSplits=5),results=5); c("SPLIT_V",X,_i(3,2),np.int32(1),o=_o("SplitVOptions",numSplits=2),results=2)
c("SLICE",X,_i(0,1,2,3),_i(2,3,-1,4),o=_o("SliceOptions"));c("SLICE/5d",(2,3,2,3,4),_i(0,1,0,1,2),_i(2,2,1,-1,2),o=_o("SliceOptions")); c("STRIDED_SLICE",X,_i(0,0,1,0),_i(2,5,6,9),_i(1,2,1,3),o=_o("StridedSliceOptions"));c("STRIDED_SLICE/neg",X,_i(1,4,6,8),_i(0,0,1,0),_i(-1,-2,-1,-3),o=_o("StridedSliceOptions")); c("STRIDED_SLICE/shrink",X,_i(0,1,0,0),_i(2,2,7,9),_i(1,1,1,1),o=_o("StridedSliceOptions",shrinkAxisMask=2)); c("STRIDED_SLICE/5d",(2,3,2,3,4),_i(0,1,0,0,0),_i(2,3,2,3,4),_i(1,1,1,2,1),o=_o("StridedSliceOptions"))
c("GATHER",X,_i(3,0,3),o=_o("GatherOptions",axis=1)); c("GATHER/last",X,_p((3,0),(1,8)),o=_o("GatherOptions",axis=3)); c("GATHER_ND",X,_p((0,1),(1,4)),o=_o("GatherNdOptions")); 
c("PAD",X,_p((0,0),(1,2),(2,1),(0,0)),o=_o("PadOptions"));c("PAD/chan",X,_p((0,0),(0,0),(0,0),(1,2)),o=_o("PadOptions"));c("PAD/5d",(2,3,2,3,4),_p((0,0),(1,0),(0,0),(0,2),(1,1)),o=_o("PadOptions")); c("PADV2",X,_p((0,0),(1,2),(2,1),(0,0)),np.float32(1.3),o=_o("PadV2Options"));c("PADV2/neg",X,_p((0,0),(1,2),(2,1),(0,0)),np.float32([-2.9]),o=_o("PadV2Options")); c("MIRROR_PAD",X,_p((0,0),(1,2),(2,1),(0,0)),o=_o("MirrorPadOptions",mode=0)); c("MIRROR_PAD/sym",X,_p((0,0),(1,2),(2,1),(0,0)),o=_o("MirrorPadOptions",mode=1))
c("TILE",X,_i(1,2,1,3),o=_o("TileOptions")); c("DEPTH_TO_SPACE",(2,3,5,12),o=_o("DepthToSpaceOptions",blockSize=2)); c("SPACE_TO_DEPTH",(2,6,10,3),o=_o("SpaceToDepthOptions",blockSize=2)); c("BATCH_TO_SPACE_ND",(6,5,7,3),_i(2,3),_p((1,0),(0,1)),o=_o("BatchToSpaceNDOptions")); c("SPACE_TO_BATCH_ND",(2,5,7,3),_i(2,3),_p((1,0),(0,2)),o=_o("SpaceToBatchNDOptions"));c("SPACE_TO_BATCH_ND/3d",(2,5,7),_i(2),_p((1,0)),o=_o("SpaceToBatchNDOptions"))
c("REVERSE_V2",X,_i(1),o=_o("ReverseV2Options")); c("REVERSE_V2/2",X,_i(1,2),o=_o("ReverseV2Options")); c("BROADCAST_TO",(5,1,9),_i(2,5,7,9),o=_o("BroadcastToOptions")); c("BROADCAST_TO/6d",(2,1,1,3,1),_i(3,2,4,1,3,5),o=_o("BroadcastToOptions")); c("TOPK_V2",X,np.int32(4),o=_o("TopKV2Options"),results=2); c("ZEROS_LIKE",X,o=_o("ZerosLikeOptions")); c("FILL",_i(3,5),np.float32(1.3),o=_o("FillOptions"));c("FILL/dyn",_i(3,5),(),o=_o("FillOptions"))
c("REVERSE_SEQUENCE",X,_i(3,5),o=_o("ReverseSequenceOptions",seqDim=1,batchDim=0)); c("DYNAMIC_UPDATE_SLICE",X,(1,2,7,9),_i(1,2,0,0),o=_o("DynamicUpdateSliceOptions")); c("SCATTER_ND",_p((0,),(2,)),(2,5,7),_i(4,5,7),o=_o("ScatterNdOptions")); c("SCATTER_ND/dup",_p((2,),(2,)),(2,5,7),_i(4,5,7),o=_o("ScatterNdOptions")); c("MATRIX_DIAG",(3,5),o=_o("MatrixDiagOptions")); c("MATRIX_SET_DIAG",(3,5,7),(3,5),o=_o("MatrixSetDiagOptions")); c("ONE_HOT",_i(0,3,2),np.int32(5),np.float32(1.),np.float32(0.),o=_o("OneHotOptions",axis=-1))
c("SELECT",X,X,X,o=_o("SelectOptions"),bool_slots=(0,)); c("SELECT_V2",X,X,X,o=_o("SelectV2Options"),bool_slots=(0,)); c("SELECT_V2/bcast",(5,1,9),X,np.float32(-1.5),o=_o("SelectV2Options"),bool_slots=(0,)); c("SELECT_V2/5d",(2,1,2,3,4),(2,3,2,1,4),(1,),o=_o("SelectV2Options"),bool_slots=(0,))
c("RESIZE_BILINEAR",X,_i(11,13),o=_o("ResizeBilinearOptions",halfPixelCenters=True)); c("RESIZE_BILINEAR/plain",X,_i(11,13),o=_o("ResizeBilinearOptions")); c("RESIZE_BILINEAR/align",X,_i(11,13),o=_o("ResizeBilinearOptions",alignCorners=True)); c("RESIZE_BILINEAR/down",X,_i(3,2),o=_o("ResizeBilinearOptions",halfPixelCenters=True)); c("RESIZE_BILINEAR/x2",X,_i(10,14),o=_o("ResizeBilinearOptions",halfPixelCenters=True));c("RESIZE_BILINEAR/x2plain",X,_i(10,14),o=_o("ResizeBilinearOptions"))
for k,v in {"":{}, "/half":{"halfPixelCenters":True},"/align":{"alignCorners":True}}.items(): c("RESIZE_NEAREST_NEIGHBOR"+k,X,_i(11,13),o=_o("ResizeNearestNeighborOptions",**v))
c("MAX_POOL_2D",X,o=_POOL); c("AVERAGE_POOL_2D",X,o=_POOL); c("AVERAGE_POOL_2D/valid",(2,14,15,9),o=_o("Pool2DOptions",strideW=3,strideH=4,filterWidth=7,filterHeight=6,padding=1)); c("AVERAGE_POOL_2D/relu6",X,o=_o("Pool2DOptions",strideW=2,strideH=2,filterWidth=3,filterHeight=2,fusedActivationFunction=3)); c("MAX_POOL_2D/relu",X,o=_o("Pool2DOptions",strideW=2,strideH=2,filterWidth=3,filterHeight=2,fusedActivationFunction=1)); c("L2_POOL_2D",X,o=_POOL)
c("FULLY_CONNECTED",(5,33),_w(7,33),_w(7),o=_o("FullyConnectedOptions")); c("FULLY_CONNECTED/nobias",(5,33),_w(7,33),None,o=_o("FullyConnectedOptions")); c("FULLY_CONNECTED/3d",(3,5,33),_w(7,33),_w(7),o=_o("FullyConnectedOptions",keepNumDims=True,fusedActivationFunction=1)); c("FULLY_CONNECTED/dyn",(5,33),(7,33),None,o=_o("FullyConnectedOptions"))
c("CONV_2D",X,_w(11,3,3,9),_w(11),o=_o("Conv2DOptions",**_CONV)); c("CONV_2D/relu6",X,_w(11,1,1,9),_w(11),o=_o("Conv2DOptions",**_CONV,fusedActivationFunction=3)); c("CONV_2D/s2",X,_w(11,3,2,9),_w(11),o=_o("Conv2DOptions",strideW=2,strideH=2,padding=1)); c("CONV_2D/dil",X,_w(11,3,2,9),_w(11),o=_o("Conv2DOptions",**_CONV,dilationWFactor=2,dilationHFactor=2)); c("CONV_2D/group",X,_w(6,3,3,3),_w(6),o=_o("Conv2DOptions",**_CONV));c("CONV_2D/nobias",X,_w(11,3,3,9),None,o=_o("Conv2DOptions",**_CONV))
c("DEPTHWISE_CONV_2D",X,_w(1,3,3,9),_w(9),o=_o("DepthwiseConv2DOptions",**_CONV,depthMultiplier=1)); c("DEPTHWISE_CONV_2D/mult",X,_w(1,3,2,18),_w(18),o=_o("DepthwiseConv2DOptions",strideW=2,strideH=2,depthMultiplier=2,fusedActivationFunction=1)); c("DEPTHWISE_CONV_2D/dil",X,_w(1,3,2,9),_w(9),o=_o("DepthwiseConv2DOptions",**_CONV,depthMultiplier=1,dilationWFactor=2,dilationHFactor=2))
c("TRANSPOSE_CONV",_i(2,10,14,4),_w(4,3,3,9),X,_w(4),o=_o("TransposeConvOptions",strideW=2,strideH=2)); c("TRANSPOSE_CONV/nobias",_i(2,11,15,4),_w(4,3,3,9),X,o=_o("TransposeConvOptions",strideW=2,strideH=2,padding=1)); c("TRANSPOSE_CONV/relu",_i(2,10,14,4),_w(4,2,2,9),X,_w(4),o=_o("TransposeConvOptions",strideW=2,strideH=2,fusedActivationFunction=1))
c("CONV_3D",(1,4,5,6,3),_w(2,3,2,3,7),_w(7),o=_o("Conv3DOptions",strideD=1,strideW=1,strideH=1))
_B=lambda x,y:_o("BatchMatMulOptions",adjX=x,adjY=y)
c("BATCH_MATMUL",(2,3,5,33),(2,3,33,7),o=_B(False,False)); c("BATCH_MATMUL/adjy",(2,3,5,33),(2,3,7,33),o=_B(False,True)); c("BATCH_MATMUL/adjx",(2,3,33,5),(2,3,33,7),o=_B(True,False)); c("BATCH_MATMUL/bcast",(2,3,5,33),(3,33,7),o=_B(False,False)); c("BATCH_MATMUL/bcast1",(2,3,5,33),(1,3,33,7),o=_B(False,False)); c("BATCH_MATMUL/2d",(5,33),(33,7),o=_B(False,False));c("BATCH_MATMUL/5d",(2,2,3,5,33),(2,2,3,33,7),o=_B(False,False)); c("BATCH_MATMUL/const",(2,3,5,33),_w(33,7),o=_B(False,False)); c("BATCH_MATMUL/const3",(2,3,5,33),_w(3,33,7),o=_B(False,False));c("BATCH_MATMUL/adjxy",(2,3,33,5),(2,3,7,33),o=_B(True,True))
c("LOCAL_RESPONSE_NORMALIZATION",X,o=_o("LocalResponseNormalizationOptions",radius=2,bias=1.,alpha=.1,beta=.5)); c("ADD_N",X,X,X,o=_o("AddNOptions")); c("WHERE",X); c("SEGMENT_SUM",X,_i(0,1),o=_o("SegmentSumOptions")); c("CAST",X,o=_o("CastOptions"))
c("UNSORTED_SEGMENT_SUM",X,_i(0,1),np.int32(2),o=_o("UnsortedSegmentSumOptions"));
