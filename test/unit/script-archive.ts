import { randomBytes } from 'node:crypto';
import { strToU8, type Zippable, zipSync } from 'fflate';
import { ScriptModule } from '../../lib/index';

/** A module without attributes, as torch.jit.save pickles it: `__torch__.M`, created and given an empty dictionary. */
function pickledModule(): Uint8Array {
  return Buffer.from('\x80\x02c__torch__\nM\n)\x81}(X\x08\x00\x00\x00training\x89ub.', 'latin1');
}

/**
 * The bytes of a TorchScript archive whose module has these methods, in TorchScript's own text; `self: __torch__.M` is
 * theirs. `functions` stand beside the module, as `__torch__.f`.
 */
export function archiveOf(methods: string, attributes = '', functions = ''): Uint8Array {
  const code =
    `${functions}class M(Module):\n  __parameters__ = []\n  __buffers__ = []\n  training : bool\n${attributes}` +
    `${methods.replace(/^(?=.)/gm, '  ')}\n`;
  const files: Zippable = {
    'm/data.pkl': pickledModule(),
    'm/code/__torch__.py': strToU8(code),
    'm/constants.pkl': Buffer.from('\x80\x02).', 'latin1'),
    'm/version': strToU8('3\n'),
    'm/byteorder': strToU8('little'),
    'm/.data/serialization_id': randomBytes(8),
  };
  return zipSync(files, { level: 0 });
}

/** Loads such an archive. */
export async function scriptOf(methods: string): Promise<ScriptModule> {
  return await ScriptModule.load(archiveOf(methods));
}
