import Foundation
import Functions
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

    /// The token that a gateway makes for itself is for its user alone, stays the same, and is needed by everybody else.
    @Test func aTokenIsMadeAndFound() throws {
        let server = try GatewayServer()
        let path = "\(server.command.home)/functions/.token"
        let token = try String(contentsOfFile: path, encoding: .utf8)
        #expect(token.utf8.count == 49 && token.hasSuffix("\n"))
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
        func status(_ token: String?, _ path: String = "/2015-03-31/functions") throws -> Int {
            try GatewayClient(endpoint: server.endpoint, token: token).send("GET", path).status
        }
        #expect(try status(nil) == 403 && status("another-token-of-24-bytes") == 403 && status(String(token.dropLast())) == 200)
        #expect(try status(nil, "/healthz") == 200)
        #expect(try server.fn("ls").code == 0)
        let other = try Command()
        let refused = try other.run("fn", "ls", "--endpoint", server.endpoint)
        #expect(refused.code == 1 && refused.error.contains("--token-file"), "\(refused.error)")
        #expect(try other.run("fn", "ls", "--endpoint", server.endpoint, "--token-file", path).code == 0)
        server.process.terminate()
        server.process.waitUntilExit()
        try server.restart()
        #expect(try String(contentsOfFile: path, encoding: .utf8) == token)
    }

    @Test func nobodyIsServedWithoutAToken() throws {
        let command = try Command()
        let refused = try command.run("serve", "--listen", "0.0.0.0:0", "--no-token")
        #expect(refused.code == 1 && refused.error.contains("--no-token"))
        let file = "\(command.home)/token"
        try Data("abc\n".utf8).write(to: URL(filePath: file))
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
        #expect(try command.run("serve", "--token-file", file).error.contains("too short"))
        try Data("a-token-that-is-long-enough\n".utf8).write(to: URL(filePath: file))
        for mode in [0o644, 0o640, 0o604] {
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file)
            for words in [["serve"], ["fn", "ls"]] {
                let result = try command.run(words + ["--token-file", file])
                #expect(result.code == 1 && result.error.contains("chmod 600"), "\(result.error)")
            }
        }
        let lost = try command.run("serve", "--listen", "no-such-host.invalid")
        #expect(lost.code == 1 && lost.error.contains("there is no host no-such-host.invalid"), "\(lost.error)")
    }

    @Test(arguments: [
        ["serve", "--listen", "nowhere:x"], ["serve", "--no-token", "--token-file", "x"], ["serve", "--concurrency", "0"],
        ["serve", "--log-level", "loud"], ["fn", "deploy", "f"],
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
