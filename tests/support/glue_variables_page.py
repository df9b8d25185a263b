"""Writes docs/glue-variables.md and the chart's files/glue-variables.yaml: the variables of ClearML's own glue.

python tests/support/glue_variables_page.py            write them
python tests/support/glue_variables_page.py --check    write nothing; end with 1 when one is out of date
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from clearml_k8s.config.glue_variables import VARIABLES, State

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "glue-variables.md"
CHART_FILE = ROOT / "charts" / "clearml-agent" / "files" / "glue-variables.yaml"

HEADER = """\
# Variables of ClearML's own glue

Built by `make generate` from `config/glue_variables.py`: each variable that ClearML's glue, or the agent in its pods,
reads of its environment, and what it does in `agentk8sglue.extraEnvs`, the controller's own. In task pods
(`basePodTemplate.env`) all of the agent work, and so does any `CLEARML_AGENT__<section>__<key>`. What is
refused is told at `helm lint` and `helm upgrade -i`; what begins
with `K8S_GLUE_` or `CLEARML_K8S_GLUE_` the controller refuses without Helm, too. What has no meaning here is named in
the notes after an installation. The variables of this controller are in
[operations](operations.md#settings-of-the-process).

| variable | | |
|---|---|---|
"""


def page() -> str:
    """The text of docs/glue-variables.md; variables of which the same is said share a row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for name, variable in VARIABLES.items():
        rows.setdefault((variable.state.value, variable.text), []).append(f"`{name}`")
    return HEADER + "".join(f"| {', '.join(names)} | {state} | {text} |\n" for (state, text), names in rows.items())


def chart_file() -> str:
    """By state what the templates need; of refused ones the advice."""
    lines = ["# Built by make generate from controller/src/clearml_k8s/config/glue_variables.py.", "works:"]
    lines += [f"  - {name}" for name, variable in VARIABLES.items() if variable.state is State.WORKS]
    for key, state in (("nothing", State.NOTHING), ("refused", State.REFUSED)):
        lines.append(f"{key}:")
        found = ((name, variable.text) for name, variable in VARIABLES.items() if variable.state is state)
        lines += [f"  {name}: {json.dumps(text)}" for name, text in found]
    return "\n".join(lines) + "\n"


def main() -> int:
    outdated = 0
    for path, text in ((PAGE, page()), (CHART_FILE, chart_file())):
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            print(f"{path.relative_to(ROOT)} is not what the code says: make generate", file=sys.stderr)
            outdated = 1
    return outdated


if __name__ == "__main__":
    sys.exit(main())
