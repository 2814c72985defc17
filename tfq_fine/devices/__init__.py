"""Devices: what runs on each, which files do not, and the sources for a microcontroller."""

from typing import TYPE_CHECKING

from tfq_converters import face

if TYPE_CHECKING:
    from tfq_fine.devices.micro_export import MicroExport, export_micro
    from tfq_fine.devices.operators import not_running
    from tfq_fine.devices.table import DEVICES, Device, device
else:
    __getattr__, __dir__ = face(
        __name__,
        {
            "micro_export": "MicroExport export_micro",
            "operators": "not_running",
            "table": "DEVICES Device device",
        },
    )

__all__ = ["DEVICES", "Device", "MicroExport", "device", "export_micro", "not_running"]
