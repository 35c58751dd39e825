// What tests do with an exported page, as steps for tests/support/browser_driver.js. Each returns what the page showed
// afterwards, and with `pixels` also the content of its canvas.
'use strict';

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
};

module.exports = Object.fromEntries(Object.entries(DO).map(([name, action]) => [name, async (page, step) => {
  await action(page, step);
  const state = await page.evaluate(shown);
  if (step.pixels) state.picture = await page.evaluate(() => document.getElementById('canvas').toDataURL());
  return state;
}]));
