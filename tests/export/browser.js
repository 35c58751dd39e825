// node browser.js PLAYWRIGHT CHROMIUM ORDER: opens an exported page and does what ORDER (JSON) says, step for step.
// Prints JSON: what the page showed after each step, and what it asked for and complained about.
'use strict';

const [playwright, executablePath, order] = process.argv.slice(2);
const {chromium} = require(playwright);
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];
// replaced: file → what the server seems to have in its place
const {url, steps, width = 1000, height = 900, dark = false, replaced = {}} = JSON.parse(order);

function shown() {
  const text = (id) => document.getElementById(id).textContent;
  return {
    state: document.body.dataset.state,
    runs: Number(document.body.dataset.runs || 0),
    check: {...document.getElementById('check').dataset, text: text('check')},
    problem: document.getElementById('problem').hidden ? '' : text('problem'),
    top: document.getElementById('results').dataset.top,
    results: [...document.querySelectorAll('#results li')].map((row) => ({...row.dataset, text: row.textContent})),
    inputs: document.getElementById('inputs').value,
    outputs: text('outputs'),
    backends: [...document.getElementById('backend').options].map((option) => option.value),
    title: document.title,
    scrolls: document.documentElement.scrollWidth > document.documentElement.clientWidth,
  };
}

const settled = () => document.body.dataset.state !== 'loading';

async function answered(page, work) {
  const before = await page.evaluate(() => Number(document.body.dataset.runs || 0));
  await work();
  await page.waitForFunction(
    (count) => Number(document.body.dataset.runs || 0) > count || document.body.dataset.state === 'failed', before);
}

async function draw(page, strokes) {
  const box = await page.locator('#canvas').boundingBox();
  const at = ([x, y]) => [box.x + x * box.width, box.y + y * box.height];
  for (const stroke of strokes) {
    await answered(page, async () => {
      await page.mouse.move(...at(stroke[0]));
      await page.mouse.down();
      for (const point of stroke.slice(1)) await page.mouse.move(...at(point), {steps: 8});
      await page.mouse.up();
    });
  }
}

const DO = {
  wait: (page) => page.waitForFunction(settled),
  upload: (page, {file}) => answered(page, () => page.locator('#file').setInputFiles(file)),
  draw: (page, {strokes}) => draw(page, strokes),
  clear: (page) => page.click('#clear'),
  run: (page, {text}) => answered(page, async () => {
    if (text !== undefined) await page.fill('#inputs', text);
    await page.click('#run');
  }),
  async backend(page, {name}) {
    await page.evaluate(() => { document.body.dataset.state = 'loading'; });
    await page.selectOption('#backend', name);
    await page.waitForFunction(settled);
  },
  screenshot: (page, {file}) => page.screenshot({path: file, fullPage: true}),
};

(async () => {
  const browser = await chromium.launch({executablePath, args: FLAGS});
  const context = await browser.newContext({viewport: {width, height}, colorScheme: dark ? 'dark' : 'light'});
  const page = await context.newPage();
  page.setDefaultTimeout(60000);
  const complaints = [];
  const asked = [];
  page.on('console', (message) => { if (message.type() === 'error') complaints.push(message.text()); });
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => asked.push(request.url()));
  for (const [file, body] of Object.entries(replaced)) await page.route(`**/${file}`, (route) => route.fulfill({body}));
  await page.goto(url);
  const states = [];
  for (const step of steps) {
    await DO[step.do](page, step);
    const state = await page.evaluate(shown);
    if (step.pixels) state.picture = await page.evaluate(() => document.getElementById('canvas').toDataURL());
    states.push(state);
  }
  process.stdout.write(JSON.stringify({states, complaints, asked}));
  await browser.close();
})().catch((error) => {
  console.error(String(error.stack || error));
  process.exit(1);
});
