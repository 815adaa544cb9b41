"""Collects results and prints them as a table or as JSON."""
import sys


def progress(text):
    """One line of progress, on standard error so that the table can be kept."""
    print(text, file=sys.stderr, flush=True)


def summary(values, higher_is_better=False):
    """Median, p99 (the bad end), the worst and the count of samples."""
    ordered = sorted(values)
    bad = 0.01 if higher_is_better else 0.99
    pick = lambda share: ordered[min(int(share * len(ordered)), len(ordered) - 1)]  # noqa: E731
    worst = ordered[0] if higher_is_better else ordered[-1]
    return {"median": pick(0.5), "p99": pick(bad), "worst": worst, "samples": len(ordered)}


def number(value):
    """Three or four significant digits, without an exponent."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class Report:
    """Lines of the table, in the order in which they were measured."""

    def __init__(self, description):
        self.description = description
        self.rows = []
        self.failures = []

    def begin(self, part):
        """What follows belongs to this part: lines of this table name theirs anyway."""

    def header(self):
        return "\n".join(f"{key}: {value}" for key, value in self.description.items())

    def add(self, part, name, unit, guest=None, host=None, higher_is_better=False, what=""):
        """A line: `guest` and `host` are summaries, or None where there is nothing to compare with."""
        ratio = guest["median"] / host["median"] if guest and host and host["median"] else None
        self.rows.append(dict(part=part, name=name, unit=unit, guest=guest, host=host, ratio=ratio,
                              higher_is_better=higher_is_better, what=what))
        progress(f"  {name}: guest {number(guest and guest['median'])} host {number(host and host['median'])} {unit}")

    def failed(self, part, reason):
        self.failures.append(dict(part=part, reason=reason))
        progress(f"bench: {part}: {reason}")

    def as_json(self):
        return dict(machine=self.description, results=self.rows, failures=self.failures)

    def table(self):
        heads = ["part", "measurement", "unit", "guest", "p99", "n", "host", "p99", "n", "guest/host"]
        lines = [heads]
        for row in self.rows:
            cells = [row["part"], row["name"], row["unit"]]
            for side in (row["guest"], row["host"]):
                cells += [number(side["median"]), number(side["p99"]), str(side["samples"])] if side else ["", "", ""]
            cells.append(f"{row['ratio']:.2f}" if row["ratio"] else "")
            lines.append(cells)
        widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
        text = ["| " + " | ".join(cell.ljust(width) if i < 3 else cell.rjust(width)
                                  for i, (cell, width) in enumerate(zip(line, widths))) + " |" for line in lines]
        text.insert(1, "|" + "|".join("-" * (width + 1) + ("-" if i < 3 else ":") for i, width in enumerate(widths)) + "|")
        text += [f"not measured: {failure['part']}: {failure['reason']}" for failure in self.failures]
        return "\n".join(text)
