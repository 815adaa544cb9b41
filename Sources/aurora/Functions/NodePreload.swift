extension LambdaRuntime {
    /// What Node loads before a function's own code (`NODE_OPTIONS`): it takes no random numbers ahead any more.
    ///
    /// `crypto.randomUUID` draws 128 of them at once, `crypto.randomInt` 1,024, and hands out one after the other. Drawn before the
    /// snapshot, all instances would hand out the same. Here each call draws its own; arguments are checked by Node's functions.
    static let nodePreload = #"""
        "use strict";
        const crypto = require("crypto");
        const { randomBytes, randomInt, randomUUID } = crypto;

        function uniform(least, count) {
            const limit = 2 ** 48 - (2 ** 48 % count);
            for (;;) {
                const value = randomBytes(6).readUIntBE(0, 6);
                if (value < limit) return least + (value % count);
            }
        }

        crypto.randomUUID = function (options) {
            if (options !== undefined) randomUUID(options);
            return randomUUID({ disableEntropyCache: true });
        };
        crypto.randomInt = function (min, max, callback) {
            const [least, end, done] = max === undefined || typeof max === "function" ? [0, min, max] : [min, max, callback];
            if (typeof done !== "function") {
                randomInt(min, max, callback);
                return uniform(least, end - least);
            }
            randomInt(least, end, (error) => (error ? done(error) : done(undefined, uniform(least, end - least))));
        };
        const web = crypto.webcrypto && Object.getPrototypeOf(crypto.webcrypto);
        if (web && web.randomUUID) web.randomUUID = function () { return crypto.randomUUID(); };
        require("module").syncBuiltinESMExports();
        """#
}
