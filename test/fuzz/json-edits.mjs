// Edits of a JSON document that leave it JSON: what its reader has to notice.

/** The characters that a list may grow by: the largest element may be the whole document. */
const MOST_ADDED = 4e6;
const LARGEST = '9223372036854775807';
// What JSON.parse and JSON.stringify make of it.
const LARGEST_AS_NUMBER = String(Number(LARGEST));

const WRONG = [
  null,
  true,
  '',
  0,
  -1,
  1.5,
  [],
  {},
  [null],
  { as_int: -1 },
  { as_int: 2 ** 40 },
  { as_none: true },
  { as_tensor: { name: 'nowhere' } },
  { as_tensors: [] },
  { as_expr: { expr_str: 'Symbol("s0")' } },
  '__proto__',
  'Infinity',
  'torch.ops.aten.add.Tensor',
  'torch.ops.aten.as_strided.default',
  '_operator.floordiv',
  '../../etc/passwd',
  'weight_0',
];

/** Changes a JSON text in one to three places; says in `done` how. Throws for what is no JSON. */
export function editJson(random, bytes, done) {
  const root = { document: JSON.parse(Buffer.from(bytes).toString()) };
  let huge;
  for (let i = random.pick([1, 1, 1, 2, 3]); i > 0; i--) {
    const places = placesIn(root);
    if (places.length === 0) break; // the document itself was dropped
    const place = random.pick(places);
    const [name, change] = random.pick([
      ['value', () => put(place, valueLike(random, places, place))],
      ['value', () => put(place, valueLike(random, places, place))],
      ['number', () => putNumber(random, places)],
      ['number', () => putNumber(random, places)],
      ['same key', () => put(place, copyOf(read(random.pick(places.filter(({ key }) => key === place.key)))))],
      ['same key', () => put(place, copyOf(read(random.pick(places.filter(({ key }) => key === place.key)))))],
      ['dropped', () => drop(place)],
      ['elements', () => changeElements(random, places)],
      ['wrong', () => put(place, copyOf(random.pick(WRONG)))],
      ['moved', () => put(place, copyOf(read(random.pick(places))))],
      [
        'deep',
        () => {
          // JSON.stringify calls itself: such a depth is put into the text.
          put(place, 'DEEP');
          const depth = random.pick([200, 5000, 100_000]);
          huge = random.pick([
            () => '['.repeat(depth) + ']'.repeat(depth),
            () => `${'{"as_graph":'.repeat(depth)}null${'}'.repeat(depth)}`,
            () => `[${'0,'.repeat(10 * depth)}0]`,
            () => `"${'x'.repeat(10 * depth)}"`,
          ])();
        },
      ],
    ]);
    done.push(`json ${name} (${place.key})`);
    change();
  }
  const text = (JSON.stringify(root.document) ?? '').replaceAll(LARGEST_AS_NUMBER, LARGEST);
  return Buffer.from(huge === undefined ? text : text.replace('"DEEP"', () => huge));
}

/** Every value of a document: the container that holds it, and its key there. */
function placesIn(root) {
  const places = [];
  const left = [root];
  while (left.length > 0) {
    const holder = left.pop();
    for (const key of Object.keys(holder)) {
      places.push({ holder, key });
      if (typeof holder[key] === 'object' && holder[key] !== null) left.push(holder[key]);
    }
  }
  return places;
}

const read = ({ holder, key }) => holder[key];
const copyOf = (value) => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)));

function put(place, value) {
  Object.defineProperty(place.holder, place.key, { value, writable: true, enumerable: true, configurable: true });
}

function drop({ holder, key }) {
  if (Array.isArray(holder)) holder.splice(Number(key), 1);
  else delete holder[key];
}

/** A value of another place, of the type that is there: names of other nodes, other operators, other sizes. */
function valueLike(random, places, place) {
  const type = typeof read(place);
  return copyOf(read(random.pick(places.filter((each) => typeof read(each) === type))));
}

function putNumber(random, places) {
  const numbers = places.filter((place) => typeof read(place) === 'number');
  if (numbers.length === 0) return;
  const place = random.pick(numbers);
  put(place, Number(random.integer(Math.trunc(read(place)))));
}

function copiesOf(value, count) {
  const size = JSON.stringify(value)?.length ?? 1;
  return Array.from({ length: Math.min(count, Math.floor(MOST_ADDED / size)) }, () => copyOf(value));
}

function changeElements(random, places) {
  const lists = places.filter((place) => Array.isArray(read(place)) && read(place).length > 0);
  if (lists.length === 0) return;
  const list = read(random.pick(lists));
  const [one, other] = [random.below(list.length), random.below(list.length)];
  random.pick([
    () => ([list[one], list[other]] = [list[other], list[one]]),
    () => list.splice(one, 0, copyOf(list[other])),
    () => list.push(...copiesOf(list[one], random.pick([2, 70, 3000]))),
    () => list.reverse(),
    () => list.splice(0),
    () => list.splice(0, one),
  ])();
}
