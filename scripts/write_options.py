"""Write splatdistill/cli/options.json, the table that --help reads, from the classes whose options it tells.

    python scripts/write_options.py

To be run whenever an option, its default or its help changes; tests/cli/test_help.py says when that was forgotten.
"""

import json

from splatdistill.cli.help import TABLE
from splatdistill.cli.options import described


def main() -> None:
    """Write the table."""
    TABLE.write_text(json.dumps(described(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(TABLE)


if __name__ == "__main__":
    main()
