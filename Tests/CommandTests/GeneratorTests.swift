import Foundation
import Testing

/// No two who go on from one checkpoint draw the same from a library's generator: of OpenSSL as the distribution has it, linked into a
/// runtime and in a wheel, and of GnuTLS.
@Suite(.enabled(if: GeneratorPrograms.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct GeneratorTests {
    private typealias Draw = [String: String]

    /// All but the one that is shared differ.
    private func check(_ draws: [Draw]) {
        for name in GeneratorPrograms.copies {
            let values = draws.compactMap { $0[name] }
            #expect(values.count == draws.count && values.allSatisfy { !$0.isEmpty }, "\(name): \(draws)")
            // Some give several numbers at once, none of which may be the same.
            let numbers = values.flatMap { $0.split(separator: " ") }
            #expect(Set(numbers).count == (name == "shared" ? 1 : numbers.count), "\(name): \(values)")
        }
    }

    @Test func groupsThatGoOnFromOneCheckpointDrawDifferently() throws {
        let aurora = try Command()
        let directory = "\(aurora.home)/programs"
        try GeneratorPrograms.write(to: directory)
        func done(_ words: String...) throws {
            let result = try aurora.run(words)
            try #require(result.code == 0, "\(words): \(result.error)")
        }
        func draw(_ name: String) throws -> Draw {
            let script = "touch /run/go; while ! [ -e /run/drawn ]; do sleep 0.1; done; cat /run/drawn"
            let result = try aurora.run("exec", name, "--", "sh", "-c", script)
            return try JSONDecoder().decode(Draw.self, from: Data(result.output.utf8))
        }
        try done(
            "persist", "-d", "--name", "g", "--image", "campaign", "-m", "384M", "--period", "off", "--",
            "sh", "-c", "while ! [ -e /run/sent ]; do sleep 0.1; done; exec python3 /root/wait.py")
        let sent = try aurora.run(
            ["exec", "-i", "g", "--", "tar", "-C", "/root", "-x"], launcher: ["/bin/sh", "-c", "tar -C '\(directory)' -c . | \"$@\"", "sh"])
        try #require(sent.code == 0, "\(sent.error)")
        try done("exec", "g", "--", "sh", "-c", "sync; touch /run/sent; while ! [ -e /run/ready ]; do sleep 0.1; done")
        try done("checkpoint", "g", "drawn")
        try done("clone", "g", "c")
        try done("restore", "g", "--at", "drawn", "--as", "r")

        var draws = try ["c", "r", "g"].map(draw)
        // Going back is going on once more: what was drawn is known to the world.
        for _ in 0..<2 {
            try done("rollback", "g", "--to", "drawn")
            draws.append(try draw("g"))
        }
        try aurora.killVMM("g")
        try done("restore", "g", "--at", "drawn")
        draws.append(try draw("g"))
        check(draws)
    }

    @Test func instancesOfAFunctionDrawDifferently() throws {
        let server = try GatewayServer()
        let directory = "\(server.command.home)/programs"
        try GeneratorPrograms.write(to: directory)
        let deployed = try server.fn(
            "deploy", "f", "--runtime", "provided", "--image", "campaign", "--memory", "384M", "--timeout", "60", directory)
        try #require(deployed.code == 0, "\(deployed.error)\(server.log)")
        func draw() throws -> Draw {
            let result = try server.fn("invoke", "f", "--payload", "{}")
            try #require(result.code == 0, "\(result.error)\(server.log)")
            // An instance that ends makes room for a new one.
            _ = try server.fn("invoke", "f", "--payload", "\"end\"")
            return try JSONDecoder().decode(Draw.self, from: Data(result.output.utf8))
        }
        var draws = try (0..<3).map { _ in try draw() }
        server.process.terminate()
        server.process.waitUntilExit()
        try server.restart()
        draws.append(try draw())
        check(draws)
    }
}

extension FunctionGuestTests {
    /// A module that was loaded before the snapshot draws differently in each instance, whichever way the runtime was started.
    @Test(arguments: [[], ["--no-snap-start"], ["--env", "PYTHONHASHSEED=1"]])
    func pythonsGeneratorsAreSeededAnew(_ options: [String]) throws {
        let server = try GatewayServer()
        let code = "\(server.command.home)/code"
        try FileManager.default.createDirectory(atPath: "\(code)/numpy", withIntermediateDirectories: true)
        // The real one has 18 MB; what counts is that it is asked.
        let counting = "calls = 0\ndef seed():\n    global calls\n    calls += 1\n"
        for (name, text) in ["app.py": Self.drawing, "numpy/__init__.py": "", "numpy/random.py": counting] {
            try text.write(toFile: "\(code)/\(name)", atomically: true, encoding: .utf8)
        }
        let words = ["fn", "deploy", "f", "--runtime", "python3", "--handler", "app.handler", "--timeout", "60"]
        let deployed = try server.command.run(words + options + ["--endpoint", server.endpoint, code])
        try #require(deployed.code == 0, "\(deployed.error)\(server.log)")
        var draws: [[String: String]] = []
        for _ in 0..<3 {
            let result = try server.fn("invoke", "f", "--payload", "{}")
            try #require(result.code == 0, "\(result.error)\(server.log)")
            draws.append(try JSONDecoder().decode([String: String].self, from: Data(result.output.utf8)))
            _ = try server.fn("invoke", "f", "--payload", "\"end\"")
        }
        for name in ["random", "ssl"] { #expect(Set(draws.compactMap { $0[name] }).count == draws.count, "\(name): \(draws)") }
        #expect(draws.allSatisfy { $0["numpy"] == "1" }, "\(draws)")
    }

    private static let drawing = """
        import os, random, ssl
        import numpy.random

        def draw():
            return {"random": str(random.random()), "ssl": ssl.RAND_bytes(16).hex(), "numpy": str(numpy.random.calls)}

        draw()

        def handler(event, context):
            return os._exit(3) if event == "end" else draw()
        """
}

extension FunctionGuestTests {
    /// A Python function is an ordinary user, whichever way its process was started.
    @Test(arguments: [[], ["--env", "PYTHONHASHSEED=1"], ["--user", "root"]])
    func pythonRunsAsAnOrdinaryUser(_ options: [String]) throws {
        let server = try GatewayServer()
        let code = "\(server.command.home)/code"
        try FileManager.default.createDirectory(atPath: code, withIntermediateDirectories: true)
        let handler = """
            import os

            def can_write(path):
                try:
                    open(path, "w").write("x")
                    return True
                except OSError:
                    return False

            def handler(event, context):
                open("/dev/stdout", "w").write("by its name\\n")
                places = [path for path in ("/tmp/x", "/var/task/x", "/etc/x", "/root/x") if can_write(path)]
                return [os.getuid(), os.getgid(), os.getgroups(), os.environ["HOME"], os.stat("/proc/self/fd").st_uid, places]
            """
        try handler.write(toFile: "\(code)/app.py", atomically: true, encoding: .utf8)
        let words = ["fn", "deploy", "f", "--runtime", "python3", "--handler", "app.handler", "--timeout", "60"]
        let deployed = try server.command.run(words + options + ["--endpoint", server.endpoint, code])
        try #require(deployed.code == 0, "\(deployed.error)\(server.log)")
        let result = try server.fn("invoke", "f", "--payload", "{}", "--log")
        let isRoot = options.contains("root")
        let expected = isRoot ? #"[0, 0, [], "/root", 0, ["/tmp/x", "/etc/x", "/root/x"]]"# : #"[993, 990, [], "/tmp", 993, ["/tmp/x"]]"#
        #expect(result.output == expected + "\n", "\(result.error)")
        #expect(result.error.contains("by its name\n"), "\(result.error)")
    }
}
