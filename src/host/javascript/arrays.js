// The engine's functions that go through an array by themselves do not ask whether they may go on, and an array's length
// may be 2^32 with nothing in it. Each is wrapped in one that asks before, with the length.
// `ask(length, steps, name)` throws where the answer is no. Everything is held here, because a script may change it.
export default function (ask) {
    const { apply } = Reflect, { isArray } = Array, number = Number;
    const length = list => number(list.length);

    function wrap(prototype, name, before) {
        const native = prototype[name];
        if (!native) return;
        const wrapper = {
            [name](...given) {
                before(this, given, name);
                return apply(native, this, given);
            },
        }[name];
        Object.defineProperty(wrapper, "length", { value: native.length });
        Object.defineProperty(prototype, name, { value: wrapper });
    }

    // They do something with every element,
    function whole(list, given, name) {
        ask(length(list), length(list), name);
    }

    // move what they leave as it is,
    function part(list, given, name) {
        ask(length(list), length(list) / 64, name);
    }

    // or hand out one after another, mostly to a loop that asks.
    function each(list, given, name) {
        ask(length(list), 0, name);
    }

    function concat(list, given, name) {
        part(list, given, name);
        for (let i = 0; i < given.length; i++) if (isArray(given[i])) part(given[i], given, name);
    }

    function flat(list, given, name) {
        const within = (list, depth) => {
            whole(list, given, name);
            if (depth < 1) return;
            for (let i = 0; i < list.length; i++) if (isArray(list[i])) within(list[i], depth - 1);
        };
        within(list, given.length && given[0] !== undefined ? number(given[0]) : 1);
    }

    function flatMap(list, given, name) {
        const call = given[0];
        if (typeof call !== "function") return;
        given[0] = function (...item) {
            const result = apply(call, this, item);
            if (isArray(result)) whole(result, given, name);
            return result;
        };
    }

    const iterator = Symbol.iterator;
    for (const prototype of [Array.prototype, Object.getPrototypeOf(Uint8Array.prototype)]) {
        for (const name of ["join", "toLocaleString", "reverse", "toReversed", "sort", "toSorted", "fill", "with", "toSpliced"])
            wrap(prototype, name, whole);
        for (const name of ["slice", "splice", "shift", "unshift", "copyWithin"]) wrap(prototype, name, part);
        for (const name of ["values", "keys", "entries"]) wrap(prototype, name, each);
        Object.defineProperty(prototype, iterator, { value: prototype.values });
    }
    wrap(Array.prototype, "concat", concat);
    wrap(Array.prototype, "flat", flat);
    wrap(Array.prototype, "flatMap", flatMap);
}
