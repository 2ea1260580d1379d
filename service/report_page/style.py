"""The page's style: light by default and in print, dark where the reader's system is."""

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1b1b1b",
    "quiet": "#555555",
    "rule": "#c8c8c8",
    "before": "#a84300",
    "after": "#0b5cad",
    "reference": "#6a4a9c",
    "passed": "#1a6b2f",
    "asked": "#7a5200",
    "failed": "#b3261e",
}
DARK = {
    "paper": "#141414",
    "ink": "#ececec",
    "quiet": "#b4b4b4",
    "rule": "#4a4a4a",
    "before": "#f0a35e",
    "after": "#7ab8ff",
    "reference": "#c3a6f0",
    "passed": "#6fd08c",
    "asked": "#f0c060",
    "failed": "#ff8a80",
}
_RULES = """
*{box-sizing:border-box}
body{background:var(--paper);color:var(--ink);font:1rem/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;
padding:1.5rem}
h1{font-size:1.6rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.2rem 0 .6rem}h3{font-size:1rem;margin:1.4rem 0 .4rem}
dl{display:grid;grid-template-columns:minmax(8rem,14rem) 1fr;gap:.2rem 1rem;margin:0}
dt{color:var(--quiet)}dd{margin:0;overflow-wrap:anywhere}
li{margin:.25rem 0;overflow-wrap:anywhere}
.verdict{border-left:.4rem solid var(--quiet);font-size:1.1rem;margin:1rem 0;padding:.4rem .8rem}
.verdict.passed{border-color:var(--passed)}.verdict.asked{border-color:var(--asked)}
.verdict.failed{border-color:var(--failed)}
.sign{font-weight:600;white-space:nowrap;color:var(--quiet)}.sign.passed{color:var(--passed)}
.sign.asked{color:var(--asked)}.sign.failed{color:var(--failed)}
.said{display:block;color:var(--quiet);font-size:.85rem;max-width:34rem}
summary{cursor:pointer}details p{margin:.3rem 0}
.wide{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-size:.9rem;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:.3rem 0}
th,td{border-bottom:1px solid var(--rule);padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top;
overflow-wrap:break-word}
thead th{color:var(--quiet);font-weight:600}tbody th{font-weight:400}
.figures{display:grid;gap:0 2rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr))}
figure{margin:1rem 0}figcaption{font-size:.9rem;font-weight:600;padding:.3rem 0}
svg{display:block;height:auto;width:100%;max-width:520px}
svg text{fill:var(--ink);font:15px system-ui,sans-serif;paint-order:stroke;stroke:var(--paper);stroke-width:3px}
.grid{stroke:var(--rule)}.none{stroke:var(--quiet);stroke-width:1.5}
.level{stroke:var(--ink);stroke-dasharray:4 3;stroke-width:1.5}
.limit{stroke:var(--failed);stroke-dasharray:1.5 3;stroke-width:2}
.range{stroke-width:2}line.before{stroke:var(--before)}line.after{stroke:var(--after)}
circle.before{fill:var(--paper);stroke:var(--before);stroke-width:2}
circle.after{fill:var(--after);stroke:var(--after);stroke-width:2}
rect.reference{fill:var(--reference)}rect.before{fill:var(--before)}rect.after{fill:var(--after)}
@media (max-width:40rem){body{padding:1rem}.wide table{min-width:34rem}dl{display:block}dd{margin:0 0 .5rem}
.said{min-width:13rem}.sign{white-space:normal}}
@media print{html{font-size:11px}body{max-width:none;padding:0}.wide{overflow:visible}
.figures{display:block}figure,tr,.verdict{break-inside:avoid}h2,h3,caption{break-after:avoid}}
"""


def css() -> str:
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{color-scheme:dark;{_variables(DARK)}}}}}"
    return f":root{{color-scheme:light;{_variables(LIGHT)}}}{dark}{_RULES}"


def _variables(colours: dict[str, str]) -> str:
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())
