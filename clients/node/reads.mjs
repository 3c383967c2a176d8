// Lists and items, with every filter that the library sends: reads.mjs <table of questions and answers>

import assert from "node:assert/strict";
import { client, get, lines, list, offers, says, shown } from "./library.mjs";

const workos = client();
let asked = 0;
for (const question of lines(process.argv[2])) {
  if (question.get) {
    const expected = question.get === "directory" ? shown(question.is) : question.is;
    says(await get(workos, question.get, question.id), expected, question.because);
  } else if (offers(question.list, question.with)) {
    const page = await list(workos, question.list, question.with);
    const asking = `${question.list} ${JSON.stringify(question.with)}: ${question.because}`;
    assert.deepEqual(page.data.map((item) => item.id), question.ids, asking);
    if ("after" in question) assert.equal(page.listMetadata.after, question.after, asking);
    question.is?.forEach((expected, at) => says(page.data[at], expected, asking));
  } else {
    continue;
  }
  asked += 1;
}
assert.ok(asked > 5, `only ${asked} questions were asked`);
