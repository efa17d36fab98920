// node viewers.mjs NODE_MODULES CHROMIUM SETTINGS SIZE [URL PICTURE]...: what each page shows once it has settled.
// Writes SuperSplat's own default settings for single objects to SETTINGS first.
import fs from "node:fs";
import { pathToFileURL } from "node:url";

const [modules, chromium, settings, size, ...jobs] = process.argv.slice(2);
const load = (file) => import(pathToFileURL(`${modules}/${file}`));
const { defaultSettings } = await load("@playcanvas/supersplat-viewer/dist/settings.js");
fs.writeFileSync(settings, JSON.stringify(defaultSettings("object")));

const playwright = await load("playwright-core/index.mjs");
const browser = await playwright.chromium.launch({
  executablePath: chromium,
  args: ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    .concat("--ignore-gpu-blocklist", "--disable-dev-shm-usage"),
});
for (let i = 0; i < jobs.length; i += 2) {
  const page = await browser.newPage({ viewport: { width: +size, height: +size } });
  page.on("console", (message) => message.type() === "error" && console.error(jobs[i], message.text()));
  page.on("pageerror", (error) => console.error(jobs[i], String(error)));
  await page.goto(jobs[i]);
  let before = Buffer.alloc(0);
  for (let second = 0; second < 120; second++) {
    await page.waitForTimeout(1000);
    const now = await page.screenshot();
    if (now.length > 1500 && now.equals(before)) break; // an empty page takes less than that
    before = now;
  }
  fs.writeFileSync(jobs[i + 1], before);
  await page.close();
}
await browser.close();
