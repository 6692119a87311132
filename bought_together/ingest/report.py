"""Report how much a run of flatten read, kept and set aside."""

import os
from pathlib import Path
from typing import Any


def report(manifest: dict[str, Any]) -> str:
    """Return the counts of a manifest as lines of text."""
    records = manifest["counts"]["transactions"]
    products = manifest["counts"]["products"]
    files = manifest["files"]
    size = sum(file["bytes"] for file in files)
    # Of order lines, only SQL knows how many baskets they are.
    kept = count(records["records_kept"], "basket")
    kept += f" with {count(records['lines_written'], 'line')}"
    if manifest.get("orders"):
        kept = count(records["lines_written"], "line")
    lines = [
        f"read       {count(records['records_read'], 'record')}"
        f" in {count(len(files), 'file')} ({megabytes(size)}),"
        f" {count(products['lines_read'], 'product line')}",
        f"kept       {kept}, {count(products['products'], 'product')}",
        f"set aside  {count(records['records_rejected'], 'record')},"
        f" {count(records['lines_rejected'], 'line')} of kept records,"
        f" {count(products['lines_rejected'], 'product line')}",
    ]
    lines += [
        f"           {reject['rejects']:,} x {reject['reason']}, first at {place(reject)}"
        for reject in manifest["rejects"]
    ]
    notes = {
        "other record": records["records_left_out"],
        "empty basket": records["baskets_empty"],
        "missing date": records["dates_missing"],
        "unreadable date": records["dates_unreadable"],
        "unreadable store id": records["stores_unreadable"],
    }
    refresh = manifest["refresh"]
    if reason := refresh.get("full"):
        lines.append(f"refresh    full: {reason}")
    elif "unchanged" in refresh:
        again = f" ({refresh['again']:,} flattened again)" if refresh["again"] else ""
        lines.append(
            f"refresh    {count(refresh['unchanged'], 'file')} unchanged{again},"
            f" {refresh['new']:,} new, {refresh['gone']:,} gone"
        )
    if any(notes.values()):
        noted = ", ".join(count(number, what) for what, number in notes.items() if number)
        lines.append(f"noted      {noted}")
    return "\n".join(lines)


def orders_line(orders: int, cancelled: int, superseded: int) -> str:
    """Return what came of mapped orders, in a line."""
    return (
        f"orders     {orders:,}, {cancelled:,} cancelled, {superseded:,} exported more than once"
        " (the newest counts)"
    )


def count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def place(reject: dict[str, Any]) -> str:
    """Return where a reject is: file:line, or file and element in a JSON array."""
    path = display_path(reject["source_file"])
    if reject["line_number"] is None:
        return f"{path} element {reject['byte_offset']:,}"
    return f"{path}:{reject['line_number']}"


def display_path(path: str) -> str:
    """Return a path inside the current folder as a relative path, any other path unchanged."""
    if os.path.isabs(path) and Path(path).is_relative_to(Path.cwd()):
        return str(Path(path).relative_to(Path.cwd()))
    return path
