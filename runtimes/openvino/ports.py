"""The inputs and outputs of an ov.Model: names, datatypes and shapes."""

from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from runtimes.contract import TensorSpec, has_dtype

# OpenVINO's names of datatypes.
_DATATYPES = {
    "boolean": "BOOL", "u8": "UINT8", "u16": "UINT16", "u32": "UINT32", "u64": "UINT64", "i8": "INT8", "i16": "INT16",
    "i32": "INT32", "i64": "INT64", "f16": "FP16", "f32": "FP32", "f64": "FP64", "string": "BYTES", "bf16": "BF16",
    "f8e4m3": "FP8_E4M3FN", "f8e5m2": "FP8_E5M2", "i4": "INT4", "u4": "UINT4",
}  # fmt: skip


class Port(NamedTuple):
    """An input or output. `aliases`: the other names that OpenVINO knows it by. `type`: OpenVINO's name of it."""

    spec: TensorSpec
    type: str
    aliases: Tuple[str, ...]

    @property
    def problem(self) -> str:
        """Why a client can neither send nor get it; "" if it can."""
        return "" if self.spec.datatype else "its datatype %s is not one of the protocol's" % self.type


def ports(found: Sequence[Any], unnamed: str, is_output: bool, served: Mapping[str, str]) -> List[Port]:
    """Return the inputs or outputs of a model in order.

    unnamed  the name of one without a name, with %d
    served   other names by those that OpenVINO uses
    """
    made: List[Port] = []
    taken = set()
    for index, port in enumerate(found):
        node = port.node.input_value(0).node if is_output else port.node
        names = sorted(port.names, key=lambda name: (":" in name, len(name), name))
        better = [served[each] for each in names if each in served]
        name = next((each for each in better + names if each not in taken), "") or unnamed % index
        while name in taken:
            name += "_%d" % index
        taken.add(name)
        kind = port.element_type.get_type_name()
        datatype = _DATATYPES.get(kind, "")
        if datatype and not has_dtype(datatype):
            datatype = ""
        aliases = [*names, node.friendly_name, *(each[:-2] for each in names if each.endswith(":0"))]
        made.append(Port(TensorSpec(name, datatype, _shape(port.partial_shape)), kind, tuple(aliases)))
    return made


def _shape(shape: Any) -> Optional[Tuple[int, ...]]:
    if shape.rank.is_dynamic:
        return None
    return tuple(int(size.get_length()) if size.is_static else -1 for size in shape)


def renamed(declared: Sequence[TensorSpec], found: List[Port]) -> List[Port]:
    """Return the ports by the names that model.toml declares, if these are names that OpenVINO knows them by.

    OpenVINO names what it reads from TensorFlow after operators. A model's only output may have any declared name.
    """
    known = {port.spec.name for port in found}
    new: Dict[int, str] = {}
    for spec in declared:
        if spec.name in known:
            continue
        matching = [index for index, port in enumerate(found) if spec.name in port.aliases]
        if len(found) == len(declared) == 1:
            matching = [0]
        if len(matching) == 1 and matching[0] not in new:
            new[matching[0]] = spec.name
    return [
        port._replace(spec=port.spec._replace(name=new[index])) if index in new else port
        for index, port in enumerate(found)
    ]
