// Clicks through the report as a reader would and leaves what it then shows in an element of its own.
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
  const shown = [];
  await wait(1500);
  for (const step of STEPS) {
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
  const result = document.createElement("pre");
  result.id = "walked";
  result.textContent = shown.join("\n");
  document.body.append(result);
})();
