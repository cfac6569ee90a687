"""The table of named networks in models.md.

python docs/zoo_table.py
"""

from resnet_jax.compiler import turn_off_ynnpack

turn_off_ynnpack()  # Before JAX starts.

from resnet_jax.models import ZOO


def rows() -> list[str]:
    """Markdown lines, a network each: name, fields, parameters, source."""
    lines = ["| name | `--config.model.` fields | parameters | source |", "|---|---|---|---|"]
    for name, entry in ZOO.items():
        fields = " ".join(f"`{field}={value}`" for field, value in entry.fields.items())
        lines.append(f"| `{name}` | {fields} | {entry.parameters:,} | {entry.source} |")
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))
