import Foundation
import Testing

/// `aurora serve` and `aurora fn` as a user has them; no machine is started.
@Suite(.timeLimit(.minutes(10))) struct ServeTests {
    @Test func servesAndEnds() throws {
        let server = try GatewayServer()
        let list = try server.fn("ls", "--format", "json")
        #expect(list.code == 0 && list.output == "[\n\n]\n", "\(list.error)")
        let missing = try server.fn("invoke", "nobody")
        #expect(missing.code == 1 && missing.error.contains("ResourceNotFoundException"))
        #expect(try server.fn("rm", "nobody").code == 1)
        #expect(try server.fn("rm", "--force", "nobody").code == 0)
        #expect(try server.fn("stat").output.hasPrefix("NAME"))
        #expect(try server.fn("events").output.hasPrefix("ID"))
        #expect(try server.fn("logs", "../x").error.contains("is not a name of a function"))
        let second = try server.command.run("serve", "--listen", "127.0.0.1:0")
        #expect(second.code == 1 && second.error.contains("in use"))
        server.process.terminate()
        server.process.waitUntilExit()
        #expect(server.process.terminationStatus == 0)
    }

    @Test func otherHostsNeedAToken() throws {
        let command = try Command()
        let refused = try command.run("serve", "--listen", "0.0.0.0:0")
        #expect(refused.code == 1 && refused.error.contains("--token-file"))
        let short = "\(command.home)/token"
        try Data("abc\n".utf8).write(to: URL(filePath: short))
        #expect(try command.run("serve", "--token-file", short).error.contains("too short"))
    }

    @Test(arguments: [
        ["serve", "--listen", "nowhere:x"], ["serve", "--concurrency", "0"], ["serve", "--log-level", "loud"], ["fn", "deploy", "f"],
        ["fn", "deploy", "f", "dir"],
    ])
    func wrongUsageIsTold(_ words: [String]) throws {
        #expect(try Command().run(words).code == 64)
    }

    @Test func nobodyThereIsTold() throws {
        let command = try Command()
        let code = "\(command.home)/code"
        try FileManager.default.createDirectory(atPath: code, withIntermediateDirectories: true)
        for words in [["ls"], ["stat"], ["logs", "f"], ["invoke", "f"], ["rm", "f"], ["deploy", "f", "--runtime", "provided", code]] {
            let result = try command.run(["fn"] + words + ["--endpoint", "http://127.0.0.1:1"])
            #expect(result.code == 1 && result.error.contains("No gateway listens at 127.0.0.1:1: "), "\(words): \(result.error)")
            #expect(result.error.contains("Start one with: aurora serve --listen 127.0.0.1:1\n"), "\(words): \(result.error)")
        }
        #expect(try Command().run("fn", "ls", "--endpoint", "ftp://x").error.contains("is not http://HOST:PORT"))
    }
}
