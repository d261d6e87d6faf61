"""One HTML file of results: tables and plots as SVG in the file itself; it opens without network and runs no script."""
import html
import math

from measure import TIMES, compare, values_of

COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
NAMES = {"ttft_ms": "Time to first token", "gap_ms": "Gap between tokens", "e2e_ms": "Whole request"}
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#111;background:#fff}
table{border-collapse:collapse;margin:.5rem 0 1.5rem;font-variant-numeric:tabular-nums}th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ddd}
th:first-child,td:first-child{text-align:left}figure{display:inline-block;margin:0 1rem 1rem 0}figcaption{font-weight:600}svg{background:#fafafa;border:1px solid #ddd}
@media(prefers-color-scheme:dark){body{background:#111;color:#eee}svg{background:#1b1b1b;border-color:#444}th,td{border-color:#444}}"""
W, H, LEFT, BOTTOM = 500, 240, 48, 28


def number(v):
    if v is None:
        return "-"
    if isinstance(v, int):
        return f"{v:,}"
    return f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.1f}" if abs(v) >= 10 else f"{v:.3g}"


def table(head, rows):
    cells = lambda tag, row: "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in row)  # noqa: E731
    return f"<table><tr>{cells('th', head)}</tr>" + "".join(f"<tr>{cells('td', r)}</tr>" for r in rows) + "</table>"


class Plot:
    """Lines and dots over linear or logarithmic axes."""

    def __init__(self, title, x_title, y_title, x_log=False):
        self.title, self.x_title, self.y_title, self.x_log = title, x_title, y_title, x_log
        self.series = []  # (name, points, is line)

    def add(self, name, points, line=True):
        points = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y) and (x > 0 or not self.x_log)]
        if points:
            self.series.append((name, points, line))

    def ticks(self, low, high):
        if self.x_log:
            return [10.0 ** e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) if low <= 10.0 ** e <= high]
        step = 10.0 ** math.floor(math.log10(max(high - low, 1e-9) / 4))
        step *= next(k for k in (1, 2, 5, 10) if (high - low) / (step * k) <= 6)
        return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]

    def svg(self):
        if not self.series:
            return ""
        xs = [x for _, points, _ in self.series for x, _ in points]
        top = max(max(y for _, points, _ in self.series for _, y in points), 1e-9)
        low, high = min(xs) if self.x_log else 0.0, max(xs)
        high = high if high > low else low * 1.1 + 1e-9
        scale = (lambda v: math.log10(v)) if self.x_log else (lambda v: v)
        px = lambda x: LEFT + (W - LEFT - 10) * (scale(x) - scale(low)) / (scale(high) - scale(low))  # noqa: E731
        py = lambda y: 10 + (H - BOTTOM - 10) * (1 - y / top)  # noqa: E731
        out = []
        for x in self.ticks(low, high):
            out.append(f'<line x1="{px(x):.1f}" x2="{px(x):.1f}" y1="10" y2="{H - BOTTOM}" stroke="#8884"/>'
                       f'<text x="{px(x):.1f}" y="{H - BOTTOM + 14}" text-anchor="middle">{number(x)}</text>')
        for i in range(5):
            y = top * i / 4
            out.append(f'<line x1="{LEFT}" x2="{W - 10}" y1="{py(y):.1f}" y2="{py(y):.1f}" stroke="#8884"/>'
                       f'<text x="{LEFT - 4}" y="{py(y) + 4:.1f}" text-anchor="end">{number(y)}</text>')
        for i, (name, points, line) in enumerate(self.series):
            colour = COLOURS[i % len(COLOURS)]
            if line:
                path = " ".join(f"{px(x):.1f},{py(y):.1f}" for x, y in points)
                out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
            else:
                out += [f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="2" fill="{colour}" fill-opacity=".6"/>' for x, y in points]
            out.append(f'<text x="{W - 14}" y="{24 + 13 * i}" text-anchor="end" fill="{colour}">{html.escape(name)}</text>')
        out.append(f'<text x="{(W + LEFT) / 2}" y="{H - 2}" text-anchor="middle">{html.escape(self.x_title)}</text>')
        label = html.escape(f"{self.title}: {self.y_title} over {self.x_title}")
        return (f'<figure><figcaption>{html.escape(self.title)}</figcaption><svg width="{W}" height="{H}" role="img" aria-label="{label}" font-size="11" '
                f'fill="currentColor" font-family="system-ui,sans-serif">{"".join(out)}</svg></figure>')


def distribution(values, most=300):
    """Points (value, share of values not above it)."""
    v = sorted(values)
    step = max(1, len(v) // most)
    picked = sorted({*range(0, len(v), step), len(v) - 1}) if v else []
    return [(v[i], (i + 1) / len(v)) for i in picked]


def token_rate(rows, bins=60):
    """Generated tokens a second over time: each request's tokens spread over the time from its first to its last."""
    spans = [(r["sent_s"] + r["ttft_ms"] / 1e3, r["ended_s"], r["answer_tok"]) for r in rows if not r["error"] and r["ttft_ms"] is not None]
    if not spans:
        return []
    width = max(max(end for _, end, _ in spans) / bins, 1e-3)
    heap = [0.0] * (bins + 1)
    for start, end, tok in spans:
        first, last = min(bins, int(start / width)), min(bins, int(end / width))
        for i in range(first, last + 1):
            heap[i] += tok / (last - first + 1)
    return [((i + 0.5) * width, n / width) for i, n in enumerate(heap[:bins])]


def plots(named):
    """Of results that belong on the same axes."""
    out = []
    for name in TIMES:
        p = Plot(NAMES[name], "ms", "share of observations", x_log=True)
        for label, rows in named:
            p.add(label, distribution(values_of(rows, name)))
        out.append(p)
    p = Plot("First tokens over time", "s", "TTFT in ms")
    for label, rows in named:
        p.add(label, [(r["sent_s"], r["ttft_ms"]) for r in rows if r["ttft_ms"] is not None and not r["error"]], line=False)
    q = Plot("Generated tokens", "s", "tokens a second")
    for label, rows in named:
        q.add(label, token_rate(rows))
    return "".join(x.svg() for x in (*out, p, q))


def summary_table(parts):
    head = ["", "requests", "failed", "tokens in", "cached", "out", "out/s", "within objectives", "goodput/s", "full layers"]
    rows = []
    for name, s in parts:
        share = "-" if s["full_layer_share"] is None else f"{100 * s['full_layer_share']:.0f}%"
        rows.append([name, s["requests"], s["requests"] - s["answered"], number(s["prompt_tok"]), number(s["cached_tok"]), number(s["answer_tok"]), number(s["answer_tok_s"]),
                     f"{100 * s['met_share']:.0f}%", number(s["goodput_s"]), share])
    times = [[f"{name}: {NAMES[t]}", s[t]["n"], *(number(s[t].get(k)) for k in ("mean", "p50", "p90", "p95", "p99", "max"))] for name, s in parts for t in TIMES]
    return table(head, rows) + table(["ms", "n", "mean", "p50", "p90", "p95", "p99", "max"], times)


def section(name, r):
    aims = ", ".join(f"{k.removesuffix('_ms')} {v:g} ms" for k, v in r["objectives"].items() if v) or "none"
    arrivals = ", ".join(f"{k} {v}" for k, v in r["arrivals"].items())
    out = [f"<h2>{html.escape(name)}</h2><p>{html.escape(r['model'])} at {html.escape(r['url'])}, {html.escape(r['started'])}. Arrivals: {html.escape(arrivals)}; "
           f"seed {r['seed']}; lengths x {r['scale']:.3f}; objectives: {html.escape(aims)}.</p>"]
    for why, n in r["summary"]["failed"].items():
        out.append(f"<p><strong>failed: {n} x {html.escape(why)}</strong></p>")
    kinds = list(r["kinds"].items())
    out.append(summary_table([("all", r["summary"]), *(kinds if len(kinds) > 1 else [])]))
    if len(kinds) > 1:
        out.append(plots([(k, [x for x in r["rows"] if x["kind"] == k]) for k, _ in kinds]))
    else:
        out.append(plots([(name, r["rows"])]))
    return "".join(out)


def write_report(path, named):
    """named: [(name, result)]. Two results of one scenario are compared and share their plots."""
    same = len(named) == 2 and named[0][1]["scenario"] == named[1][1]["scenario"]
    body = ""
    if same:
        (a, one), (b, two) = named
        rows = [(name, number(x), number(y), verdict) for name, x, y, verdict in compare(one, two)]
        body = f"<h2>{html.escape(one['scenario'])}: {html.escape(a)} and {html.escape(b)}</h2>" + table(["", a, b, ""], rows) + plots([(a, one["rows"]), (b, two["rows"])])
    body += "".join(section(name, r) for name, r in named)
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src \'none\'; style-src \'unsafe-inline\'">'
                f"<title>Load test</title><style>{STYLE}</style></head><body><h1>Load test</h1>{body}</body></html>\n")
