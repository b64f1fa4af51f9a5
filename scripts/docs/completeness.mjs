// What a docstring has to say, of what TypeDoc found.

import { Comment, ReflectionKind } from 'typedoc';

/** What is said of errors: codes, another name that fails alike, or that there are none. */
const SAYS_WHAT = /ERR_[A-Z]|\bas `|^Nothing/;

const CALLABLES = ReflectionKind.CallSignature | ReflectionKind.ConstructorSignature;

/** What the docstrings of a project lack, a line each: parameters, results, errors. TypeDoc itself looks for descriptions. */
export function* missingIn(project) {
  for (const signature of project.getReflectionsByKind(CALLABLES)) {
    const { parent } = signature;
    // Types of functions within types say what they say where they stand.
    if (!parent.kindOf(ReflectionKind.FunctionOrMethod | ReflectionKind.Constructor) || signature.inheritedFrom)
      continue;
    const name = signature.getFriendlyFullName();
    const tags = new Set(signature.comment?.blockTags.map(({ tag }) => tag));
    for (const parameter of signature.parameters ?? []) {
      if (!parameter.comment?.hasVisibleComponent()) yield `${name} says nothing of its parameter ${parameter.name}`;
    }
    const returnsNothing = /^(void|Promise<void>|this)$/.test(String(signature.type));
    if (!returnsNothing && !signature.kindOf(ReflectionKind.ConstructorSignature) && !tags.has('@returns')) {
      yield `${name} doesn't say what it returns`;
    }
    const thrown = signature.comment?.getTag('@throws');
    if (!thrown) yield `${name} doesn't say what it throws (what can't fail throws "Nothing")`;
    else if (!SAYS_WHAT.test(Comment.combineDisplayParts(thrown.content))) {
      yield `${name} doesn't say by which codes it fails`;
    }
  }
}
