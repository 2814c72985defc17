"""The schema's numbers for operators and types, and our names for them."""

from ai_edge_litert import schema_py_generated as schema


def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if not name.startswith("_")}


IDENTIFIER = b"TFL3"
OPERATORS = _names(schema.BuiltinOperator)
OPERATOR_CODES = {name: code for code, name in OPERATORS.items()}
TYPES = {code: name.lower() for code, name in _names(schema.TensorType).items()}
TYPE_CODES = {name: code for code, name in TYPES.items()}
