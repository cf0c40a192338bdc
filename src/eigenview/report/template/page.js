"use strict";

// On a touch screen, scrolling the page must not zoom a plot.
const isTouch = matchMedia("(pointer: coarse)").matches;

for (const plot of document.querySelectorAll(".plot")) {
  const spec = JSON.parse(plot.parentElement.querySelector("script").textContent);
  if (isTouch) spec.layout.dragmode = false;
  Plotly.newPlot(plot, spec.data, spec.layout, {responsive: true, displayModeBar: false});
  // with a view box the plot can shrink if the page is printed narrower than it was shown
  const fit = () => plot.querySelectorAll(".main-svg").forEach(svg => {
    svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
  });
  fit();
  plot.on("plotly_afterplot", fit);
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      // some browsers deny the clipboard to pages opened from a disk; selecting the text still works
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

// Print folded sections open.
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details.run:not([open])")) fold.open = true;
});

document.documentElement.dataset.ready = "yes";
