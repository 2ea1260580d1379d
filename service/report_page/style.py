"""The page's style: light by default and in print, dark where the reader's system is."""

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b1b1b",
    "quiet": "#555555",
    "rule": "#c8c8c8",
    "before": "#a84300",
    "after": "#0b5cad",
}
DARK = {
    "paper": "#141414",
    "ink": "#ececec",
    "quiet": "#b4b4b4",
    "rule": "#4a4a4a",
    "before": "#f0a35e",
    "after": "#7ab8ff",
}
_RULES = """
*{box-sizing:border-box}
body{background:var(--paper);color:var(--ink);font:1rem/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;
padding:1.5rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.2rem;margin:2.2rem 0 .6rem}h3{font-size:1rem;margin:1.4rem 0 .4rem}
dl{display:grid;grid-template-columns:minmax(8rem,14rem) 1fr;gap:.2rem 1rem;margin:0}
dt{color:var(--quiet)}dd{margin:0;overflow-wrap:anywhere}
li{margin:.25rem 0;overflow-wrap:anywhere}
.verdict{border-left:.4rem solid var(--after);font-size:1.1rem;margin:1rem 0;padding:.4rem .8rem}
.wide{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.9rem;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{border-bottom:1px solid var(--rule);padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top;
overflow-wrap:break-word}
thead th{color:var(--quiet);font-weight:600}tbody th{font-weight:400}
figure{margin:1rem 0}figcaption{font-size:.9rem;font-weight:600;padding:.3rem 0}
svg{display:block;height:auto;max-width:100%;width:760px}
svg text{fill:var(--ink);font:13px system-ui,sans-serif}
.grid{stroke:var(--rule)}.level{stroke:var(--ink);stroke-dasharray:4 3;stroke-width:1.5}
.range{stroke-width:2}line.before{stroke:var(--before)}line.after{stroke:var(--after)}
circle.before{fill:var(--paper);stroke:var(--before);stroke-width:2}
circle.after{fill:var(--after);stroke:var(--after);stroke-width:2}
@media print{html{font-size:11px}body{max-width:none;padding:0}.wide{overflow:visible}
figure,tr,.verdict{break-inside:avoid}h2,h3,caption{break-after:avoid}}
"""


def css() -> str:
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{color-scheme:dark;{_variables(DARK)}}}}}"
    return f":root{{color-scheme:light;{_variables(LIGHT)}}}{dark}{_RULES}"


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())
