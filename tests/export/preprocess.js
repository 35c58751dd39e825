// node preprocess.js IMAGE_JS ORDERS: what the page makes of images; ORDERS is a file of JSON, see test_image_js.py.
'use strict';
const fs = require('fs');

const {fitted, values} = require(process.argv[2]);
const orders = JSON.parse(fs.readFileSync(process.argv[3], 'utf8'));
const answers = orders.map(({width, height, pixels, config, whole}) => {
  const seen = fitted({width, height, data: Buffer.from(pixels, 'base64')}, config);
  return Buffer.from(values(seen, config, whole).buffer).toString('base64');
});
process.stdout.write(JSON.stringify(answers));
