import Foundation

/// Programs that draw random numbers from several copies of libraries, and the copies that come from PyPI.
enum GeneratorPrograms {
    /// Why they cannot be run here; nil when they can.
    static let obstacle: String? = {
        if let reason = Command.obstacle { return reason }
        let prepared = ProcessInfo.processInfo.environment["AURORA_HOME"] ?? "/var/lib/aurora"
        guard FileManager.default.fileExists(atPath: "\(prepared)/images/campaign/root.ext4") else {
            print("SKIPPED: tests of generators; run: scripts/campaign --prepare")
            return "no image campaign"
        }
        return nil
    }()

    /// Where `nodejs-bin` has OpenSSL 3.0 linked into Node, and the wheel of `cryptography` OpenSSL 4.0 into its module.
    private static let wheels = ["cryptography==50.0.2", "cffi==2.1.1", "nodejs-bin==18.4.0a4"]

    /// The directory of the wheels, fetched once; nil, loudly, where they cannot be had.
    private static let wheelPath: String? = {
        let path = folder
        let platforms = ["manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux_2_12"].flatMap { ["--platform", "\($0)_x86_64"] }
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments =
            ["python3", "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--target", path]
            + platforms + wheels
        process.standardInput = FileHandle.nullDevice
        try? process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            print("SKIPPED: generators of Node and of wheels: pip cannot fetch \(wheels.joined(separator: ", "))")
            return nil
        }
        // What npm brings is 10 MB more to send.
        try? FileManager.default.removeItem(atPath: "\(path)/nodejs/lib")
        try? FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: "\(path)/nodejs/bin/node")
        atexit { try? FileManager.default.removeItem(atPath: GeneratorPrograms.folder) }
        return path
    }()
    private static let folder = FileManager.default.temporaryDirectory.appending(path: "aurora-wheels-\(UUID().uuidString.prefix(8))").path

    /// Puts programs and wheels into a new directory.
    static func write(to directory: String) throws {
        let files = FileManager.default
        try files.createDirectory(atPath: directory, withIntermediateDirectories: true)
        for (name, text) in ["draws.py": draws, "gnutls.py": gnutls, "draw.js": node, "bootstrap": bootstrap, "wait.py": waiting] {
            try text.write(toFile: "\(directory)/\(name)", atomically: true, encoding: .utf8)
        }
        try files.setAttributes([.posixPermissions: 0o755], ofItemAtPath: "\(directory)/bootstrap")
        if let wheelPath { try files.copyItem(atPath: wheelPath, toPath: "\(directory)/wheels") }
    }

    /// What `draws.py` draws from; "shared" is a generator that nobody renews, which shows that the others had the chance to be the same.
    static var copies: Set<String> {
        let own: Set = ["shared", "distribution", "gnutls"]
        return wheelPath == nil ? own : own.union(["wheel", "runtime"])
    }

    private static let draws = """
        import os, random, ssl, subprocess, sys

        HERE = os.path.dirname(os.path.abspath(__file__))
        WHEELS = HERE + "/wheels"
        sys.path.insert(0, WHEELS)

        def child(*arguments):
            # A state of GnuTLS that lies across two pages is not found: the same addresses each time.
            environment = {**os.environ, "PYTHONHASHSEED": "0"}
            process = subprocess.Popen(arguments, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            def draw():
                process.stdin.write(b"draw\\n")
                process.stdin.flush()
                return process.stdout.readline().decode().strip()
            return draw

        def copies():
            found = {
                "shared": lambda: str(random.getrandbits(64)),
                "distribution": lambda: ssl.RAND_bytes(16).hex(),
                "gnutls": child(sys.executable, HERE + "/gnutls.py"),
            }
            if os.path.exists(WHEELS):
                from cryptography.hazmat.primitives.asymmetric import ec
                found["wheel"] = lambda: str(ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value)
                found["runtime"] = child(WHEELS + "/nodejs/bin/node", HERE + "/draw.js")
            def draw():
                return {name: draw() for name, draw in found.items()}
            draw()
            return draw
        """

    /// At all three levels of secrecy.
    private static let gnutls = """
        import ctypes, sys

        library = ctypes.CDLL("libgnutls.so.30")
        buffer = ctypes.create_string_buffer(16)
        for line in sys.stdin:
            drawn = []
            for level in range(3):
                assert library.gnutls_rnd(level, buffer, 16) == 0
                drawn.append(buffer.raw.hex())
            print(*drawn, flush=True)
        """

    /// In functions also what Node used to draw ahead, which nobody prevents in groups.
    private static let node = """
        const crypto = require("crypto");
        require("readline").createInterface({ input: process.stdin }).on("line", () => {
            const key = crypto.generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey.export({ type: "sec1", format: "der" });
            const ahead = process.env.AWS_LAMBDA_RUNTIME_API ? crypto.randomUUID() + " " + crypto.randomInt(2 ** 47) + " " : "";
            console.log(ahead + crypto.randomBytes(16).toString("hex") + " " + key.toString("hex"));
        });
        """

    /// Serves functions.
    private static let bootstrap = """
        #!/usr/bin/python3
        import http.client, json, os
        import draws

        draw = draws.copies()
        while True:
            connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
            connection.request("GET", "/2018-06-01/runtime/invocation/next")
            answer = connection.getresponse()
            name = answer.headers["Lambda-Runtime-Aws-Request-Id"]
            if json.loads(answer.read()) == "end":
                os._exit(3)
            connection.request("POST", f"/2018-06-01/runtime/invocation/{name}/response", json.dumps(draw()))
            connection.getresponse().read()
        """

    /// Draws, waits until it is told to, draws once more and says what.
    private static let waiting = """
        import json, os, time
        import draws

        draw = draws.copies()
        open("/run/ready", "w").close()
        while not os.path.exists("/run/go"):
            time.sleep(0.05)
        with open("/run/new", "w") as file:
            json.dump(draw(), file)
        os.rename("/run/new", "/run/drawn")
        time.sleep(100000)
        """
}
