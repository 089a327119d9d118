// Clicks through the report as a reader would, a walk after the other, each in a report that was just opened; what is
// shown at the end of a walk is left in an element of its own.
(async () => {
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const text = (node) => node.textContent.trim();
  const find = (step) => {
    const [icon, ...name] = step.split(" ");
    if (!["eye", "information-circle"].includes(icon)) {
      return [...document.querySelectorAll("#app a")].find((link) => text(link) === step);
    }
    const row = [...document.querySelectorAll("#app tr")].find((one) => text(one) === name.join(" "));
    return row && row.querySelector(`a[iconname="${icon}"]`);
  };
  const walk = async (steps) => {
    const shown = [];
    for (const step of steps) {
      const link = find(step);
      if (!link) {
        shown.push(`no link ${step}`);
        break;
      }
      link.click();
      await wait(500);
    }
    shown.push(document.querySelector("#app").innerText.replace(/\s+/g, " "));
    for (const image of document.images) {
      if (image.src.startsWith("data:image/png")) shown.push(`image ${image.naturalWidth}`);
    }
    return shown.join("\n");
  };
  await wait(1500);
  for (const [number, steps] of WALKS.entries()) {
    root.render(e(App, { key: number })); // the report's own names: a new key makes its state anew
    await wait(500);
    const result = document.createElement("pre");
    result.className = "walked";
    result.textContent = await walk(steps);
    document.body.append(result);
  }
})();
