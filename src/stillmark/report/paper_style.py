"""The paper report's stylesheet and script: light and dark, no outside resource."""

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c1e21; --soft: #5b6168; --line: #d9dde2; --panel:
#f5f6f8;
  --link: #0b57d0; --distilled: #c2410c; --vanilla: #1d4ed8; --proprietary: #7e22ce; --teacher: #047857;
  --holds: #047857; --fails: #b91c1c; --depends: #a16207; }
@media (prefers-color-scheme: dark) { :root { --back: #14161a; --text: #e6e8eb; --soft: #a0a7b0; --line:
#333940;
  --panel: #1d2026; --link: #8ab4f8; --distilled: #fb923c; --vanilla: #7aa2ff; --proprietary: #c792ea;
  --teacher: #4fd1a5; --holds: #4fd1a5; --fails: #ff8a80; --depends: #e6b450; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 8rem; max-width: 78rem; background: var(--back); color:
var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .3rem;
} p { max-width: 60rem; margin: .4rem 0 .8rem; } .soft { color: var(--soft); } a { color: var(--link); } a.n {
color: inherit; text-decoration: underline dotted; text-underline-offset: 3px; } nav { position: sticky; top:
0; z-index: 2; background: var(--back); border-bottom: 1px solid var(--line);
  padding: .5rem 0; display: flex; flex-wrap: wrap; gap: .4rem 1rem; align-items: center; }
nav label { cursor: pointer; } nav select, input[type=search] { font: inherit; color: inherit;
  background: var(--panel); border: 1px solid var(--line); border-radius: 4px; padding: .15rem .4rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .7rem; margin: 1rem
0; } .tile { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .6rem
.8rem; } .tile b { display: block; font-size: 1.35rem; } .tile span { color: var(--soft); font-size: .87rem; }
.scroll { max-height: 34rem; overflow: auto; border: 1px solid var(--line); border-radius: 6px; } table {
border-collapse: collapse; width: 100%; font-size: .87rem; } th, td { padding: .3rem .6rem; text-align: left;
vertical-align: top; border-bottom: 1px solid var(--line); } th { position: sticky; top: 0; background:
var(--panel); } td.num, th.num { text-align: right;
  font-variant-numeric: tabular-nums; white-space: nowrap; }
.holds, .supported, .value { color: var(--holds); } .fails, .contradicted { color: var(--fails); }
.depends, .tie, .mixed, .assumed, .estimated { color: var(--depends); } .unknown, .refused { color:
var(--soft); } figure { margin: .8rem 0; } figcaption { color: var(--soft); font-size: .87rem; } svg { width:
100%; height: auto; } svg text { fill: var(--text); font: 12px system-ui, sans-serif; } svg .tick { fill:
var(--soft);
  text-anchor: middle; font-size: 11px; } svg .tick.left, svg .name { text-anchor: end; }
svg .title { text-anchor: middle; fill: var(--soft); } svg .small, svg .label { font-size: 11px; fill:
var(--soft); } svg .grid { stroke: var(--line); } svg .claim { stroke: var(--text); stroke-dasharray: 5 4; }
svg a { color: var(--soft); } svg .mark { fill: currentColor; stroke: none; } svg .range { stroke:
currentColor;
  stroke-width: 1.4; } svg .family { fill: none; stroke: currentColor; stroke-width: 1.2; opacity: .55; }
svg .distilled { color: var(--distilled); } svg .vanilla { color: var(--vanilla); }
svg .proprietary { color: var(--proprietary); } svg .teacher { color: var(--teacher); }
svg .bar { stroke: currentColor; stroke-width: 4; opacity: .5; } svg .bar.open { stroke-dasharray: 3 4; }
svg .end { fill: currentColor; } svg .holds { color: var(--holds); } svg .fails { color: var(--fails); }
svg .depends { color: var(--depends); } .key span { margin-right: 1.1rem; } .key svg { width: 14px;
vertical-align: -2px; } #source { position: fixed; left: 0; right: 0; bottom: 0; max-height: 45vh; overflow:
auto; z-index: 3;
  background: var(--panel); border-top: 2px solid var(--link); padding: .7rem 1.25rem; font-size: .9rem; }
#source li { margin-bottom: .5rem; } #source button { float: right; font: inherit; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
@media print { nav, #source, input { display: none; } .scroll { max-height: none; overflow: visible; } }
"""

SCRIPT = """
'use strict';
const references = JSON.parse(document.getElementById('references').textContent);
const panel = document.getElementById('source');
function line(parent, tag, text) {
  const node = document.createElement(tag);
  node.textContent = text;
  parent.append(node);
  return node;
}
function showSource(ids) {
  panel.replaceChildren();
  const close = line(panel, 'button', 'close');
  close.addEventListener('click', () => { panel.hidden = true; });
  const list = document.createElement('ol');
  for (const id of ids) {
    const [what, value, method, source, url, where, seen, note] = references[id];
    const item = line(list, 'li', '');
    line(item, 'b', what + ' = ' + value);
    line(item, 'span', ' (' + method + ') ');
    if (url) {
      const link = line(item, 'a', source + (where ? ', ' + where : ''));
      link.href = url; link.target = '_blank'; link.rel = 'noopener';
    }
    if (seen) line(item, 'div', 'seen: ' + seen).className = 'soft';
    if (note) line(item, 'div', note).className = 'soft';
  }
  panel.append(list);
  panel.hidden = false;
}
document.addEventListener('click', event => {
  const link = event.target.closest('[data-r]');
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  showSource(link.dataset.r.split(' '));
});
document.addEventListener('keydown', event => { if (event.key === 'Escape') panel.hidden = true; });
const filters = [...document.querySelectorAll('input[type=search]')];
function update() {
  const boundary = document.querySelector('input[name=boundary]:checked').value;
  const benchmark = document.getElementById('benchmark').value;
  for (const node of document.querySelectorAll('figure[data-b], p[data-b]'))
    node.hidden = node.dataset.b !== boundary || ('m' in node.dataset && node.dataset.m !== benchmark);
  for (const table of document.querySelectorAll('table')) {
    const filter = filters.find(input => input.dataset.for === table.id);
    const wanted = filter ? filter.value.toLowerCase() : '';
    for (const row of table.tBodies[0].rows)
      row.hidden = ('b' in row.dataset && row.dataset.b !== boundary)
        || (wanted && !row.textContent.toLowerCase().includes(wanted));
  }
}
document.querySelector('nav').addEventListener('change', update);
for (const input of filters) input.addEventListener('input', update);
update();
"""
