// What TypeDoc does differently here: types that are all element types are shown by their names, what a class inherits is
// described where it comes from, and what a docstring lacks is an error.

import {
  Application,
  Comment,
  CommentTag,
  Converter,
  LiteralType,
  ReferenceType,
  ReflectionKind,
  UnionType,
} from 'typedoc';
import dtypes from '../../dist/core/dtype.js';
import { missingIn } from './completeness.mjs';

export function load(app) {
  // Behind the step of TypeDoc that finds out what is inherited, ahead of those that sort members into groups.
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => nameElementTypes(project), -50);
  app.converter.on(Converter.EVENT_RESOLVE_END, ({ project }) => linkInherited(project), -51);
  app.on(Application.EVENT_VALIDATE_PROJECT, (project) => {
    for (const problem of missingIn(project)) app.logger.error(problem);
  });
}

/** Writes the element types out where they are declared, and nowhere else: TypeDoc does so wherever they are a default. */
function nameElementTypes(project) {
  const aliases = project.getReflectionsByKind(ReflectionKind.TypeAlias);
  const unions = { DType: dtypes.DTYPE_NAMES, FloatingDType: dtypes.FLOATING_DTYPES };
  const named = new Map(
    Object.entries(unions).map(([name, values]) => {
      const alias = aliases.find((each) => each.name === name);
      alias.type = new UnionType(values.map((value) => new LiteralType(value)));
      return [[...values].sort().join(), alias];
    }),
  );
  const aliasOf = (type) =>
    type instanceof UnionType && type.types.every((each) => each instanceof LiteralType)
      ? named.get(
          type.types
            .map(({ value }) => value)
            .sort()
            .join(),
        )
      : undefined;
  const visit = (type) => {
    for (const key of Object.keys(type)) {
      const value = type[key];
      if (Array.isArray(value)) for (const [i, each] of value.entries()) replaceIn(value, i, each);
      else replaceIn(type, key, value);
    }
  };
  const seen = new Set();
  function replaceIn(holder, key, value) {
    if (value === null || typeof value !== 'object' || typeof value.visit !== 'function' || seen.has(value)) return;
    seen.add(value);
    const alias = aliasOf(value);
    if (alias) {
      holder[key] = ReferenceType.createResolvedReference(alias.name, alias, project);
      return;
    }
    visit(value);
    if (
      value instanceof ReferenceType &&
      value.name === 'Tensor' &&
      value.typeArguments?.every(({ name }) => name === 'DType')
    ) {
      delete value.typeArguments;
    }
  }
  for (const reflection of Object.values(project.reflections)) {
    if (aliases.includes(reflection) && Object.hasOwn(unions, reflection.name)) continue;
    for (const key of ['type', 'default', 'constraint'])
      if (reflection[key]) replaceIn(reflection, key, reflection[key]);
  }
}

/** Leaves members that a class inherits from another one that is documented to that one's page, and links them. */
function linkInherited(project) {
  // Told by their docstrings: classes between the two that aren't exported hide where a member comes from.
  const keyOf = (member) => JSON.stringify([member.name, textOf(member.comment ?? firstSignature(member)?.comment)]);
  // To TypeDoc, a class that is exported as a type is an interface: those are what the others extend.
  const bases = project.getReflectionsByKind(ReflectionKind.Interface);
  const origins = new Map();
  for (const member of bases.flatMap(({ children = [] }) => children)) {
    if (!origins.has(keyOf(member))) origins.set(keyOf(member), member);
  }
  for (const reflection of project.getReflectionsByKind(ReflectionKind.ClassOrInterface)) {
    const inherited = (reflection.children ?? []).filter((member) => {
      const origin = origins.get(keyOf(member));
      return member.inheritedFrom && origin && origin !== member && isCallable(member);
    });
    if (inherited.length === 0) continue;
    const links = inherited.flatMap((member, i) => [
      { kind: 'text', text: i === 0 ? '' : ', ' },
      { kind: 'inline-tag', tag: '@link', text: member.name, target: origins.get(keyOf(member)) },
    ]);
    reflection.comment.blockTags.push(new CommentTag('@inherited', links));
    for (const member of inherited) project.removeReflection(member);
  }
}

const isCallable = (member) => member.kindOf(ReflectionKind.Method | ReflectionKind.Accessor);

const firstSignature = (member) => member.signatures?.[0] ?? member.getSignature;

const textOf = (comment) => Comment.combineDisplayParts(comment?.summary);
