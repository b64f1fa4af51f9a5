import type { NativeCapture, NativeTensor } from '../core/binding';
import { cancellable, type Stop, unlessAborted } from '../core/cancellable';
import { TorchError } from '../core/errors';
import { fromHandle, handleOf, type Tensor } from '../core/tensor';
import type { Unseen } from '../core/unseen';
import { type Attention, fromNativeAttention } from './attention';

/** What a capture of the addon gave, as users get it; with the gradients of the scalar that `gradientOf` names. */
export async function fromNativeCapture<Output>(
  result: NativeCapture,
  convert: (output: unknown) => Output,
  stop: Stop,
  gradientOf?: (output: Output) => Tensor | Promise<Tensor>,
): Promise<{ output: Output; attentions: Attention[]; unseen: Unseen[] }> {
  const output = convert(result.output);
  const attentions = result.attentions.map(fromNativeAttention);
  if (result.gradients && gradientOf) {
    const { signal } = stop;
    signal?.throwIfAborted();
    const scalar = handleOf(await unlessAborted(gradientOf(output), signal), 'the result of gradientOf');
    const { shape, requiresGrad } = fromHandle(scalar);
    if (shape.reduce((product, size) => product * size, 1) !== 1 || !requiresGrad) {
      throw new TorchError(
        'ERR_INVALID_ARGUMENT',
        'Expected a tensor with one element that was computed from the output for the result of gradientOf but ' +
          `received one of shape [${shape.join(', ')}]${requiresGrad ? '' : ' that takes no part in gradients'}`,
      );
    }
    const pending = result.gradients;
    const gradients = await cancellable(stop, (cancellation) => pending.of(scalar, cancellation));
    for (const [i, attention] of attentions.entries()) attention.gradient = fromHandle(gradients[i] as NativeTensor);
  }
  return { output, attentions, unseen: result.unseen };
}
