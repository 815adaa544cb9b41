"""The table of checkpoints: Aurora, a peer of the same run where there is one, what the paper says, and the goal."""
from .report import number, progress


class Figures:
    """Lines of the table, in the order in which they were measured, and the points of the plot."""

    HEADS = ["part", "measurement", "unit", "median", "p99", "worst", "n", "peer", "median", "p99", "ratio", "paper", "goal"]
    # Columns of numbers are aligned to the right.
    RIGHT = {3, 4, 5, 6, 8, 9, 10}

    def __init__(self, description):
        self.description = description
        self.rows, self.failures, self.notes = [], [], []
        # Name of a series -> [(seconds since its begin, microseconds)]
        self.series = {}
        # Name of a series -> the part it was measured in.
        self.series_parts = {}
        self._part = ""

    def begin(self, part):
        """What follows belongs to this part of the run."""
        self._part = part

    def add_series(self, name, points):
        """A line of the plot."""
        self.series[name] = points
        self.series_parts[name] = self._part

    def take(self, found):
        """Adds what `as_json` of another run says; parts that it measured again are replaced."""
        again = {entry["measured_in"] for key in ("results", "notes", "failures") for entry in found[key]}
        self.rows = [row for row in self.rows if row["measured_in"] not in again] + found["results"]
        self.notes = [note for note in self.notes if note["measured_in"] not in again] + found["notes"]
        self.failures = [failure for failure in self.failures if failure["measured_in"] not in again] + found["failures"]
        for name in [name for name, part in self.series_parts.items() if part in again]:
            del self.series[name], self.series_parts[name]
        self.series |= found["series"]
        self.series_parts |= found["series_parts"]
        for key, value in found["machine"].items():
            known = self.description.get(key, "").split("; ")
            if value not in known:
                self.description[key] = "; ".join([*filter(None, known), value])

    def add(self, part, name, unit, aurora=None, peer=None, peer_name="", paper="", goal="", higher_is_better=False, what=""):
        """A line: `aurora` and `peer` are summaries, or None."""
        ratio = aurora["median"] / peer["median"] if aurora and peer and peer["median"] else None
        self.rows.append(dict(measured_in=self._part, part=part, name=name, unit=unit, aurora=aurora, peer=peer, peer_name=peer_name, ratio=ratio, paper=paper,
                              goal=goal, higher_is_better=higher_is_better, what=what))
        beside = f", {peer_name} {number(peer['median'])}" if peer else ""
        progress(f"  {part}: {name}: {number(aurora and aurora['median'])} {unit}{beside}")

    def note(self, part, text):
        """What a reader must know about a part."""
        self.notes.append(dict(measured_in=self._part, part=part, text=text))
        progress(f"  {part}: {text}")

    def failed(self, part, reason):
        self.failures.append(dict(measured_in=self._part, part=part, reason=reason))
        progress(f"bench: {part}: {reason}")

    def as_json(self):
        return dict(machine=self.description, results=self.rows, notes=self.notes, failures=self.failures, series=self.series,
                    series_parts=self.series_parts)

    def table(self):
        lines = [self.HEADS]
        for row in self.rows:
            aurora, peer = row["aurora"], row["peer"]
            cells = [row["part"], row["name"], row["unit"]]
            cells += [number(aurora["median"]), number(aurora["p99"]), number(aurora.get("worst")), str(aurora["samples"])] if aurora \
                else ["", "", "", ""]
            cells += [row["peer_name"], number(peer["median"]), number(peer["p99"])] if peer else [row["peer_name"], "", ""]
            lines.append(cells + [f"{row['ratio']:.2f}" if row["ratio"] else "", row["paper"], row["goal"]])
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.HEADS))]
        text = ["| " + " | ".join(cell.rjust(width) if i in self.RIGHT else cell.ljust(width)
                                  for i, (cell, width) in enumerate(zip(line, widths))) + " |" for line in lines]
        text.insert(1, "|" + "|".join("-" * (width + 1) + (":" if i in self.RIGHT else "-") for i, width in enumerate(widths)) + "|")
        text += [""] + [f"{note['part']}: {note['text']}" for note in self.notes]
        text += [f"not measured: {failure['part']}: {failure['reason']}" for failure in self.failures]
        return "\n".join(text)
