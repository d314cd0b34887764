#include "service/report/style.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace sluice {
namespace {

// Slots 0-7: told apart with any colour vision, by lightness where hue does not help; at least 3:1
// against the background. After Okabe and Ito (2008), darker on white and lighter on black.
constexpr char kLight[] =
    "--bg:#f6f7f9;--card:#ffffff;--ink:#16202c;--muted:#5b6776;--grid:#e4e8ed;--axis:#9aa5b1;"
    "--ref:#6b7683;--line:#dde2e8;--accent:#0062a3;"
    "--c0:#0072b2;--c1:#d55e00;--c2:#00906a;--c3:#c98a00;--c4:#7b4fa3;--c5:#3f9fd8;--c6:#c2548f;"
    "--c7:#7a828b";
constexpr char kDark[] =
    "--bg:#10151b;--card:#182029;--ink:#e8edf2;--muted:#9fabb8;--grid:#2a343f;--axis:#5f6c7a;"
    "--ref:#8f9caa;--line:#2a343f;--accent:#6fb7ec;"
    "--c0:#4aa3df;--c1:#f0803c;--c2:#2bbd92;--c3:#e8b33a;--c4:#b38be0;--c5:#9bd3f5;--c6:#ea8fc1;"
    "--c7:#a3adb8";

constexpr char kPage[] = R"css(
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--bg);color:var(--ink);line-height:1.5;font-size:16px;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1264px;margin:0 auto;padding:28px 24px 48px}
h1{font-size:1.65rem;line-height:1.25;margin:0 0 .4rem;text-wrap:balance}
h2{font-size:1.2rem;margin:2.2rem 0 .3rem}
h3{font-size:1rem;margin:0 0 .15rem}
p{margin:.3rem 0 .8rem;max-width:78ch}
.summary{font-size:1.1rem;text-wrap:pretty;margin-bottom:1.2rem}
.note{color:var(--muted);font-size:.9rem;margin:.1rem 0 .7rem}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:16px}
.figures{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));
margin:1rem 0}
.figures .label{color:var(--muted);font-size:.85rem}
.figures .value{font-size:1.65rem;font-weight:650;line-height:1.2;white-space:nowrap;
font-variant-numeric:tabular-nums}
.figures .value small{font-size:.95rem;font-weight:500;color:var(--muted);margin-left:.25em}
.figures .note{margin:.15rem 0 0;font-size:.82rem;line-height:1.35}
.grid{display:grid;gap:20px;grid-template-columns:minmax(0,1fr);margin:1rem 0}
.scroll{overflow-x:auto}
.tablecard{margin:1rem 0}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:.34rem .7rem;text-align:left;border-bottom:1px solid var(--line);
vertical-align:top}
th{color:var(--muted);font-weight:600;font-size:.85rem;vertical-align:bottom}
tr:last-child td{border-bottom:0}
th:first-child,td:first-child{padding-left:0}
.num{text-align:right;white-space:nowrap}
tr.best td{font-weight:650;color:var(--accent)}
.tablecard .note{margin:.6rem 0 0}
svg{display:block;width:100%;height:auto}
.n,.h,.w{display:none}
.fixed svg{width:auto;max-width:none}
footer{margin-top:2.5rem;color:var(--muted);font-size:.85rem;overflow-wrap:anywhere}
footer p{max-width:none;margin:.2rem 0}
@media (max-width:639.98px){.n{display:block}main{padding:18px 12px 32px}.card{padding:12px}
h1{font-size:1.35rem}.figures{grid-template-columns:repeat(2,minmax(0,1fr));gap:10px}
.figures .value{font-size:1.3rem;white-space:normal}th,td{padding:.3rem .5rem}}
@media (min-width:640px){.h{display:block}}
@media (min-width:640px) and (max-width:1079.98px){.half{max-width:640px}}
@media (min-width:1080px){.grid{grid-template-columns:repeat(2,minmax(0,1fr))}
.wide{grid-column:1/-1}.wide .h{display:none}.w{display:block}}
@media print{body{font-size:11pt}main{padding:0;max-width:none}
.card,figure,tr{break-inside:avoid}h2,h3{break-after:avoid}.card{border-color:#ccc}
.scroll{overflow:visible}.fixed svg{width:100%}}
@page{margin:14mm}
figure{margin:0}
)css";

constexpr char kChart[] = R"css(
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-variant-numeric:tabular-nums}
.t{fill:var(--ink)}.m{fill:var(--muted)}
.o{paint-order:stroke;stroke:var(--card);stroke-width:4px;stroke-linejoin:round}
.g{stroke:var(--grid)}.a{stroke:var(--axis)}.r{stroke:var(--ref);stroke-dasharray:5 4}
.l{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.p{fill:none;stroke-width:5.5;stroke-linecap:round;stroke-opacity:.75}.q{stroke-width:3.6}
.band{fill:var(--muted);fill-opacity:.1}.cell{fill-opacity:.34;shape-rendering:crispEdges}
.area{fill-opacity:.22}
.d1{stroke-dasharray:7 4}.d2{stroke-dasharray:2 4}.d3{stroke-dasharray:9 3 2 3}
)css";

std::string Compact(const char* css) { return absl::StrReplaceAll(css, {{"\n", ""}}); }

}  // namespace

std::string PaletteCss(const std::string& root) {
  return absl::StrCat(root, "{color-scheme:light dark;", kLight, "}",
                      "@media screen and (prefers-color-scheme:dark){", root, "{", kDark, "}}");
}

std::string ChartCss() {
  std::string css = Compact(kChart);
  for (int slot = 0; slot < 8; ++slot) {
    absl::StrAppend(&css, ".s", slot, "{stroke:var(--c", slot, ")}.f", slot, "{fill:var(--c", slot,
                    ")}");
  }
  return css;
}

std::string PageCss() { return Compact(kPage); }

}  // namespace sluice
