"""A plot of stop times over time as SVG, written by hand."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 960, 480
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 110
COLOURS = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"]
# More points than this a series only make the file larger: each further one is left out evenly, never the worst of its neighbours.
POINTS_MAX = 2000


def thinned(points):
    """The worst of each run of neighbours, so that no outlier is lost."""
    step = max(1, math.ceil(len(points) / POINTS_MAX))
    return [max(points[i:i + step], key=lambda point: point[1]) for i in range(0, len(points), step)]


def stop_times(series, lines, title):
    """SVG of `series` (name -> [(second, microseconds)]) over `lines` (name -> microseconds), with a logarithmic scale."""
    values = [value for points in series.values() for _, value in points] + list(lines.values())
    if not values:
        return None
    low = 10 ** math.floor(math.log10(max(min(values), 1)))
    high = 10 ** math.ceil(math.log10(max(values)))
    seconds = max((points[-1][0] for points in series.values() if points), default=1) or 1

    def x(second):
        return LEFT + (WIDTH - LEFT - RIGHT) * second / seconds

    def y(value):
        share = (math.log10(max(value, low)) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" font-size="15">{escape(title)}</text>']
    decade = low
    while decade <= high:
        label = f"{decade:g} µs" if decade < 1000 else f"{decade / 1000:g} ms"
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(decade):.1f}" y2="{y(decade):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y(decade) + 4:.1f}" text-anchor="end">{label}</text>')
        decade *= 10
    for tick in range(0, int(seconds) + 1, max(1, int(seconds) // 10)):
        out.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick} s</text>')
    for name, value in lines.items():
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="black" '
                   'stroke-dasharray="6 4"/>')
        out.append(f'<text x="{WIDTH - RIGHT - 4}" y="{y(value) - 4:.1f}" text-anchor="end">{escape(name)}</text>')
    for index, (name, points) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        out.append(f'<g fill="{colour}" fill-opacity="0.6">')
        out += [f'<circle cx="{x(second):.1f}" cy="{y(value):.1f}" r="1.6"/>' for second, value in thinned(points)]
        out.append("</g>")
        left, top = LEFT + index % 3 * 290, HEIGHT - BOTTOM + 44 + index // 3 * 18
        out.append(f'<rect x="{left}" y="{top - 9}" width="10" height="10" fill="{colour}"/>')
        out.append(f'<text x="{left + 15}" y="{top}">{escape(name)}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"
