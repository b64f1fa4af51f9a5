// Activation patching: puts what the encoder made of one date into the run on another. node examples/activation-patching.mjs
import { HookedModel } from '../dist/index.js';
import { inputsFor, loadModel, nextCharacter } from './dates.mjs';

const model = await loadModel();
const [clean, other] = ['12 may 2021', '12 may 2034'];
const written = '20';

const recorder = new HookedModel(model);
recorder.setForwardHook('encoder', 'encoder');
const before = nextCharacter(await model.forward(inputsFor(clean, written)));
const donor = nextCharacter(await model.forward(inputsFor(other, written)));
const { output } = recorder.hooks.get('encoder');
recorder.delHook('encoder');

const handle = model.registerForwardHook('encoder', () => output);
const after = nextCharacter(await model.forward(inputsFor(clean, written)));
handle.remove();
const again = nextCharacter(await model.forward(inputsFor(clean, written)));

console.log(`${clean}: ${written} is followed by ${before}`);
console.log(`${other}: ${written} is followed by ${donor}`);
console.log(`${clean} with the other's encoder output: ${written} is followed by ${after}`);
console.log(`without the hook: ${again}`);
model.dispose();
