"""What the benches of the simulator share: one run, and the file of results."""

import json
import pathlib
import subprocess
import tempfile


def simulate(sluice, flags):
    """The JSON of `sluice simulate FLAGS`."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out.json"
        command = [sluice, "simulate", *flags, "--json", out]
        subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads(out.read_text())


def write(path, head, sections):
    """`head`, then each list of cells, a cell a line."""
    lines = [f' "{name}": [\n' + ",\n".join("  " + json.dumps(cell, separators=(",", ":")) for cell in cells) + "\n ]"
             for name, cells in sections.items()]
    path.write_text(json.dumps(head, indent=1)[:-2] + ",\n" + ",\n".join(lines) + "\n}\n")
