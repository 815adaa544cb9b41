import CLinux
import Foundation
import Functions
import Linux
import Testing

/// `aurora serve` and `aurora fn` with real machines: a shell script serves, which the image `base` has all it needs for.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct ServeGuestTests {
    /// A directory with a `bootstrap` that answers with its event and `VERSION`, and fails in several ways when it is told to.
    static func code(in server: GatewayServer) throws -> String {
        let path = "\(server.command.home)/code"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        try bootstrap.write(toFile: "\(path)/bootstrap", atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: "\(path)/bootstrap")
        // As a virtual environment has them: they lead out of the code, and are the machine's own business.
        for (name, target) in [("python", "/usr/bin/python3"), ("up", "../../up")] {
            try? FileManager.default.createSymbolicLink(atPath: "\(path)/\(name)", withDestinationPath: target)
        }
        return path
    }

    private static let bootstrap = #"""
        #!/bin/bash
        echo "initialized $VERSION"
        echo "code $(stat -c %a bootstrap) $(readlink python) $(readlink up)"
        echo "user $(id -un) $(id -u):$(id -g) $HOME" >/dev/stdout
        for place in /tmp /dev/shm /var/task /etc /root; do touch $place/x 2>/dev/null && echo "wrote $place"; done
        [ -z "$FILL" ] || head -c "$FILL" /dev/urandom > /dev/shm/fill
        connect() { exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/:/\/}"; }
        while connect; do
            printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: x\r\n\r\n' >&3
            length=0
            while IFS= read -r line <&3; line=${line%$'\r'}; [ -n "$line" ]; do
                case ${line,,} in
                lambda-runtime-aws-request-id:*) id=${line#*: } ;;
                content-length:*) length=${line#*: } ;;
                esac
            done
            IFS= read -r -N "$length" event <&3
            exec 3>&-
            echo "event $event"
            kind=response body="{\"echo\":$event,\"version\":\"$VERSION\"}"
            case $event in
            '"error"') kind=error body='{"errorMessage":"an odd value","errorType":"Odd"}' ;;
            '"exit"') exit 3 ;;
            '"hang"') sleep 1000 ;;
            '"slow"') sleep 1 ;;
            esac
            connect
            printf 'POST /2018-06-01/runtime/invocation/%s/%s HTTP/1.1\r\n' "$id" "$kind" >&3
            printf 'Content-Length: %d\r\nConnection: close\r\n\r\n%s' "${#body}" "$body" >&3
            cat <&3 >/dev/null
            exec 3>&-
        done
        """#

    /// `Max Memory Used` of a log, MB.
    private static func memoryUsed(_ log: String) throws -> Int {
        try #require(log.firstMatch(of: /Max Memory Used: (\d+) MB/).flatMap { Int($0.1) }, "\(log)")
    }

    private func deploy(_ server: GatewayServer, _ name: String, _ code: String, version: Int, timeout: Int = 60) throws {
        let result = try server.fn(
            "deploy", name, "--runtime", "provided", "--env", "VERSION=\(version)", "--timeout", "\(timeout)", code)
        try #require(result.code == 0 && result.output.hasPrefix("\(name): Active"), "\(result.error)\(server.log)")
        #expect(result.error.isEmpty, "nobody watches: nothing is told: \(result.error)")
    }

    private func zip(_ directory: String) throws -> String {
        let target = "\(directory).zip"
        let process = try Process.run(
            URL(filePath: "/usr/bin/env"), arguments: ["bsdtar", "--format", "zip", "-cf", target, "-C", directory, "bootstrap"])
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "bsdtar, of the package libarchive-tools")
        return target
    }

    /// A function's life: deployed from a directory, invoked in every way, changed from an archive, removed; then the gateway's end.
    @Test func aFunctionsLife() throws {
        let server = try GatewayServer(["--retry-delay", "10"])
        let code = try Self.code(in: server)
        try deploy(server, "f", code, version: 1)

        let answer = try server.fn("invoke", "f", "--payload", #"{"a":[1]}"#, "--log")
        #expect(answer.code == 0 && answer.output == #"{"echo":{"a":[1]},"version":"1"}"# + "\n", "\(answer.error)")
        for part in ["START RequestId", #"event {"a":[1]}"#, "REPORT RequestId"] { #expect(answer.error.contains(part), "\(answer.error)") }
        #expect((2...64).contains(try Self.memoryUsed(answer.error)), "\(answer.error)")
        let error = try server.fn("invoke", "f", "--payload", "\"error\"")
        #expect(error.code == 1 && error.output.contains("an odd value"), "\(error.output)\(error.error)")
        let exit = try server.fn("invoke", "f", "--payload", "\"exit\"")
        #expect(exit.code == 1 && exit.output.contains("exit status 3"), "\(exit.output)\(exit.error)")
        #expect(try server.fn("invoke", "g").error.contains("ResourceNotFoundException"))
        try refusals(server)
        try events(server)
        try reports(server)

        let first = server.launchImages
        #expect(first.count == 2)
        try deploy(server, "f", try zip(code), version: 2)
        // One change of settings and code is built once; what its launch image replaces goes.
        #expect(server.log.components(separatedBy: "function built").count == 3, "\(server.log)")
        try server.eventually("the end of the old launch image") { server.launchImages.count == 2 && server.launchImages != first }
        #expect(try server.fn("invoke", "f", "--payload", "2").output == #"{"echo":2,"version":"2"}"# + "\n")
        try aClientGoes(server)
        try slowAndSilentClients(server)
        let unknown = try server.fn("deploy", "g", "--runtime", "provided", "--user", "nobody-of-this-name", code)
        #expect(unknown.code == 1 && unknown.error.contains("nobody-of-this-name"), "\(unknown.error)")
        let asRoot = try server.fn("deploy", "g", "--runtime", "provided", "--user", "root", code)
        #expect(asRoot.code == 0, "\(asRoot.error)")
        let root = try server.fn("logs", "g").output
        #expect(root.contains("user root 0:0 /root\nwrote /tmp\nwrote /dev/shm\nwrote /etc\nwrote /root\n"), "\(root)")
        try deploy(server, "g", code, version: 3, timeout: 1)
        let late = try server.fn("invoke", "g", "--payload", "\"hang\"", "--log")
        // What it printed before is not lost.
        let printed = try server.fn("logs", "g").output
        #expect(late.error.contains("event \"hang\"\n") && printed.contains("event \"hang\"\n"), "\(late.error)")
        #expect(late.code == 1 && late.output.contains("Task timed out after 1.00 seconds"), "\(late.output)\(late.error)")
        #expect((2...64).contains(try Self.memoryUsed(late.error)), "\(late.error)")
        #expect(try server.fn("rm", "g").output == "g\n")
        #expect(try server.fn("ls", "-q").output == "f\n")
        try server.eventually("the end of its launch image") { server.launchImages.count == 2 }
        #expect(try server.fn("invoke", "g").code == 1)
        try ends(server)
    }

    private func refusals(_ server: GatewayServer) throws {
        let path = "/2015-03-31/functions/f/invocations"
        #expect(try server.send("POST", path, [("X-Amz-Invocation-Type", "DryRun")]).status == 204)
        let large = [UInt8](repeating: 49, count: (6 << 20) + 1)
        #expect(try server.send("POST", path, [], large).status == 413)
        #expect(try server.send("POST", path, [("X-Amz-Invocation-Type", "Event")], Array(large.prefix((1 << 20) + 1))).status == 413)
        let file = "\(server.command.home)/large"
        try Data(large).write(to: URL(filePath: file))
        let refused = try server.fn("invoke", "f", "--payload", "@\(file)")
        #expect(refused.code == 1 && refused.error.contains("more than 6M"), "\(refused.error)")
        #expect(try server.fn("invoke", "f", "--payload", "{").error.contains("InvalidRequestContentException"))
    }

    /// Two asynchronous invocations: one is served, the other fails three times and is kept.
    private func events(_ server: GatewayServer) throws {
        let good = try server.fn("invoke", "f", "--payload", "\"later\"", "--async").output.trimmingCharacters(in: .newlines)
        let bad = try server.fn("invoke", "f", "--payload", "\"error\"", "--async").output.trimmingCharacters(in: .newlines)
        try server.eventually("an asynchronous invocation") { try server.fn("logs", "f").output.contains("START RequestId: \(good)") }
        try server.eventually("a dead letter") { try server.fn("events", "f").output.contains("dead") }
        let log = try server.fn("logs", "f").output
        #expect(log.contains("event \"later\"\nEND RequestId: \(good)"), "\(log)")
        #expect(log.components(separatedBy: "START RequestId: \(bad)").count == 4, "\(log)")
        #expect(try server.fn("events", "--remove", bad).code == 0)
        #expect(try !server.fn("events").output.contains(bad))
    }

    private func reports(_ server: GatewayServer) throws {
        struct Function: Decodable {
            struct Times: Decodable { let count: Int }
            let name, state: String
            let outcomes: [String: Int]
            let times: [String: Times]
        }
        let list = try JSONDecoder().decode([Function].self, from: Data(try server.fn("ls", "--format", "json").output.utf8))
        #expect(list.map(\.name) == ["f"] && list.first?.state == "Active")
        let stat = try JSONDecoder().decode([Function].self, from: Data(try server.fn("stat", "f", "--format", "json").output.utf8))
        let first = try #require(stat.first)
        // The first and the asynchronous one; an error and three more; one that ended its runtime.
        #expect(first.outcomes["success"] == 2 && first.outcomes["function_error"] == 4 && first.outcomes["exit"] == 1, "\(first)")
        #expect(first.times.values.map(\.count).reduce(0, +) == 7, "\(first)")
        let logs = try server.fn("logs", "f").output
        let who = "user sbx_user1051 993:990 /tmp\nwrote /tmp\nwrote /dev/shm\n"
        #expect(logs.contains("initialized 1\ncode 755 /usr/bin/python3 ../../up\n\(who)START"), "\(logs)")
    }

    /// At SIGTERM the request that runs is answered, and nothing is left of gateway, hosts and machines.
    private func ends(_ server: GatewayServer) throws {
        let (running, _, output, _) = try server.command.start([
            "fn", "invoke", "f", "--payload", "\"slow\"", "--endpoint", server.endpoint,
        ])
        try server.eventually("a request that runs") { try isServing(server) || !running.isRunning }
        #expect(!server.processes.filter { $0 != server.process.processIdentifier }.isEmpty)
        server.process.terminate()
        let answer = output.fileHandleForReading.readDataToEndOfFile()
        running.waitUntilExit()
        #expect(String(decoding: answer, as: UTF8.self) == #"{"echo":"slow","version":"2"}"# + "\n")
        server.process.waitUntilExit()
        #expect(server.process.terminationStatus == 0, "\(server.log)")
        try server.eventually("the end of all processes") { server.processes.isEmpty }
    }

    /// A client that goes while its function runs: the instance serves to the end, and then the next request.
    private func aClientGoes(_ server: GatewayServer) throws {
        let (client, _, _, _) = try server.command.start(["fn", "invoke", "f", "--payload", "\"slow\"", "--endpoint", server.endpoint])
        try server.eventually("a request that runs") { try isServing(server) || !client.isRunning }
        kill(client.processIdentifier, SIGKILL)
        client.waitUntilExit()
        try server.eventually("the end of the request") { try !isServing(server) }
        #expect(try server.fn("invoke", "f", "--payload", "1").code == 0)
    }

    /// Clients that send nothing, and some that send their requests in small pieces: others are served meanwhile, and these in the end.
    private func slowAndSilentClients(_ server: GatewayServer) throws {
        let port = try #require(server.endpoint.split(separator: ":").last.flatMap { UInt16($0) })
        let silent = try (0..<200).map { _ in SharedDescriptor(try Socket.beginConnecting(address: 0x7F00_0001, port: port)) }
        let slow = try (0..<4).map { _ in SharedDescriptor(try Socket.beginConnecting(address: 0x7F00_0001, port: port)) }
        for socket in slow {
            try Socket.setNonBlocking(socket.rawValue, false)
            _ = clinux_socket_timeouts(socket.rawValue, 120_000)
        }
        let token = try #require(server.token)
        var head = "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        head += "Authorization: Bearer \(token)\r\nContent-Length: 8\r\n\r\n"
        let request = Array((head + "\"slowly\"").utf8)
        for start in stride(from: 0, to: request.count, by: 10) {
            for socket in slow {
                let piece = request[start..<min(start + 10, request.count)]
                #expect(piece.withUnsafeBytes { clinux_send(socket.rawValue, $0.baseAddress, $0.count) } == piece.count)
            }
            // Once within the head, once within the body.
            guard start == 50 || start + 10 >= request.count - 8 && start + 10 < request.count else { continue }
            #expect(try server.fn("invoke", "f", "--payload", "1").output == #"{"echo":1,"version":"2"}"# + "\n")
        }
        for socket in slow {
            var answer: [UInt8] = []
            var buffer = [UInt8](repeating: 0, count: 4096)
            while case let count = clinux_recv(socket.rawValue, &buffer, buffer.count), count > 0 { answer += buffer[..<count] }
            let text = String(decoding: answer, as: UTF8.self)
            #expect(text.hasPrefix("HTTP/1.1 200") && text.hasSuffix(#"{"echo":"slowly","version":"2"}"#), "\(text)")
        }
        withExtendedLifetime(silent) {}
    }

    private func isServing(_ server: GatewayServer) throws -> Bool {
        struct Report: Decodable {
            struct Function: Decodable { let active: Int }
            let functions: [Function]
        }
        let report = try JSONDecoder().decode(Report.self, from: Data(try server.send("GET", "/aurora/status").body))
        return report.functions.contains { $0.active > 0 }
    }

    /// Launch images of nobody go, those of a function that is served stay; without a gateway, which removes the first as well.
    private func pruningKeepsWhatIsOfUse(_ server: GatewayServer) throws {
        let used = server.launchImages
        #expect(used.count == 2)
        let stray = String(repeating: "0", count: 32)
        try FileManager.default.createDirectory(atPath: "\(server.command.home)/launch/\(stray)", withIntermediateDirectories: false)
        try Data(repeating: 1, count: 100_000).write(to: URL(filePath: "\(server.command.home)/launch/\(stray)/memory"))
        // The kernels are those of the machine: nothing of them may go here, so the first is no run but a question.
        let told = try server.command.run("image", "prune", "--dry-run")
        #expect(told.code == 0 && told.output.contains("launch image \(stray): ") && told.output.contains("Would free "), "\(told)")
        #expect(used.allSatisfy { !told.output.contains($0) }, "\(told)")
        #expect(server.launchImages == used.union([stray]))
        guard !told.output.contains("kernel ") else { return }
        let done = try server.command.run("image", "prune", "--all")
        #expect(done.code == 0 && done.output == told.output.replacingOccurrences(of: "Would free", with: "Freed"), "\(done)")
        #expect(server.launchImages == used)
    }

    /// The image of a function is not removed by mistake, and when it is by force, the function is served from the store all the same.
    @Test func functionsOutliveTheirImage() throws {
        let server = try GatewayServer { command in
            // An image of its own, of which the disk is everybody's.
            let prepared = URL(filePath: "\(command.home)/images").resolvingSymlinksInPath()
            try FileManager.default.removeItem(atPath: "\(command.home)/images")
            try FileManager.default.createDirectory(atPath: "\(command.home)/images/base", withIntermediateDirectories: true)
            try FileManager.default.copyItem(
                atPath: prepared.appending(path: "base/manifest.json").path, toPath: "\(command.home)/images/base/manifest.json")
            try FileManager.default.createSymbolicLink(
                atPath: "\(command.home)/images/base/root.ext4", withDestinationPath: prepared.appending(path: "base/root.ext4").path)
        }
        try deploy(server, "f", try Self.code(in: server), version: 1)
        let refused = try server.command.run("image", "rm", "base")
        #expect(refused.code != 0 && refused.error.contains("used by function f"), "\(refused.error)")
        let removed = try server.command.run("image", "rm", "--force", "base")
        #expect(removed.code == 0, "\(removed.error)")
        // A new instance each time, the second one from launch images that are made again.
        #expect(try server.fn("invoke", "f", "--payload", "\"exit\"").code == 1)
        server.process.terminate()
        server.process.waitUntilExit()
        try pruningKeepsWhatIsOfUse(server)
        try FileManager.default.removeItem(atPath: "\(server.command.home)/launch")
        try server.restart()
        let answer = try server.fn("invoke", "f", "--payload", "1")
        #expect(answer.output == #"{"echo":1,"version":"1"}"# + "\n", "\(answer.error)\(server.log)")
    }

    /// What functions of the runtime `provided.al2023` are that are no programs: a script that asks with `curl`, and means bash by `sh`.
    @Test func aShellScriptWithCurlServes() throws {
        let server = try GatewayServer()
        let path = "\(server.command.home)/script"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        let script = #"""
            #!/bin/sh
            set -euo pipefail
            source "$LAMBDA_TASK_ROOT/${_HANDLER%.*}.sh"
            api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
            while :; do
                head=$(mktemp)
                event=$(curl -sS -L -D "$head" "$api/next")
                request=$(grep -i '^lambda-runtime-aws-request-id:' "$head" | tr -d '[:space:]' | cut -d: -f2)
                curl -sS -o /dev/null "$api/$request/response" -d "$("${_HANDLER#*.}" "$event")"
                rm "$head"
            done
            """#
        try script.write(toFile: "\(path)/bootstrap", atomically: true, encoding: .utf8)
        try #"handle() { [[ $1 == *a* ]] && echo "{\"got\":$1}"; }"#.write(toFile: "\(path)/work.sh", atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o700], ofItemAtPath: "\(path)/bootstrap")
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: "\(path)/work.sh")
        let words = ["--runtime", "provided.al2023", "--handler", "work.handle", "--timeout", "60"]
        // On a terminal it tells how far it is; the first one boots the runtime.
        let terminal = ["/usr/bin/python3", "-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"]
        let deployed = try server.command.run(["fn", "deploy", "f"] + words + ["--endpoint", server.endpoint, path], launcher: terminal)
        try #require(deployed.code == 0, "\(deployed.output)\(deployed.error)\(server.log)")
        #expect(deployed.output.contains("aurora: booting the runtime"), "\(deployed.output)")
        for _ in 0..<2 {
            let answer = try server.fn("invoke", "f", "--payload", #"{"a":1}"#, "--log")
            #expect(answer.output == #"{"got":{"a":1}}"# + "\n", "\(answer.error)")
        }
    }

    /// Launch images that nobody uses go when there is no room for them, and are made again when they are asked for.
    @Test func theLaunchCacheIsBounded() throws {
        let server = try GatewayServer(["--launch-cache", "1M", "--pool", "0"])
        let code = try Self.code(in: server)
        try deploy(server, "f", code, version: 1)
        try deploy(server, "g", code, version: 2)
        // The runtime's own is in use as long as it has functions.
        try server.eventually("the end of images that nobody uses") { server.launchImages.count == 1 }
        func metric(_ name: String) throws -> Int? {
            let text = String(decoding: try server.send("GET", "/metrics").body, as: UTF8.self)
            return text.split(separator: "\n").first { $0.hasPrefix("\(name) ") }.flatMap { Int($0.dropFirst(name.count + 1)) }
        }
        try server.eventually("the count of them") { try metric("aurora_launch_images_evicted_total") == 2 }
        #expect(try metric("aurora_launch_cache_limit_bytes") == 1 << 20)
        #expect(try metric("aurora_launch_cache_bytes") ?? 0 > 1 << 20)
        for _ in 0..<2 {
            #expect(try server.fn("invoke", "f", "--payload", "1").output == #"{"echo":1,"version":"1"}"# + "\n", "\(server.log)")
            // The instance is idle, which is a use.
            #expect(server.launchImages.count == 2)
            let list = try server.fn("ls").output
            #expect(list.contains("LAUNCH") && list.split(separator: "\n").contains { $0.hasPrefix("g") && $0.contains(" - ") }, "\(list)")
            #expect(try server.fn("invoke", "f", "--payload", "\"exit\"").code == 1)
            try server.eventually("the end of what was used") { server.launchImages.count == 1 }
        }
    }

    /// A store without room for the runtime: the deployment fails and says why, and leaves nothing but the function's record.
    @Test func aFullStoreIsTold() throws {
        let server = try GatewayServer { command in
            let made = try command.run("store", "init", "--size", "48M")
            try #require(made.code == 0, "\(made.error)")
        }
        let result = try server.fn("deploy", "f", "--runtime", "provided", try Self.code(in: server))
        #expect(result.code == 1 && result.error.contains("has no room for"), "\(result.output)\(result.error)")
        #expect(try server.fn("ls").output.contains("Failed"))
        #expect(try server.fn("invoke", "f").error.contains("ResourceConflictException"))
        #expect(try !server.command.run("store", "stat").output.contains("function/"))
        try server.eventually("the end of the builder") { server.processes == [server.process.processIdentifier] }
        #expect(try server.fn("rm", "f").code == 0)
        #expect(try server.fn("ls", "-q").output.isEmpty)
    }

    /// A store with room for the runtime and one function, but not for the next one's own pages: that deployment fails and says why,
    /// the first function is served on, and when room was made the same deployment succeeds.
    @Test func aStoreThatFillsUnderASnapshotIsTold() throws {
        let server = try GatewayServer { command in
            let made = try command.run("store", "init", "--size", "192M")
            try #require(made.code == 0, "\(made.error)")
        }
        let code = try Self.code(in: server)
        // Runtime and image take some 90 MiB of the store, each function what it fills with random bytes.
        func deploy(_ name: String) throws -> CommandResult {
            try server.fn("deploy", name, "--runtime", "provided", "--memory", "256M", "--env", "FILL=\(64 << 20)", code)
        }
        let first = try deploy("first")
        try #require(first.code == 0, "\(first.error)\(server.log)")
        let served = try server.fn("invoke", "first", "--payload", "1", "--log")
        #expect(served.code == 0)
        // What it took when it was initialized counts, the pages of its snapshot.
        let used = try Self.memoryUsed(served.error)
        #expect((64...256).contains(used), "\(served.error)")
        let refused = try deploy("second")
        #expect(refused.code == 1 && refused.error.contains("room"), "\(refused.output)\(refused.error)")
        #expect(try server.fn("invoke", "second").error.contains("ResourceConflictException"))
        #expect(try server.fn("invoke", "first", "--payload", "2").code == 0)
        #expect(try !server.command.run("store", "stat").output.contains("function/second"))
        #expect(!server.processes.contains { (try? server.words(of: $0))?.contains("build-function") ?? false })
        #expect(try server.command.run("store", "scrub").output.contains(" 0 findings"))

        #expect(try server.fn("rm", "first").code == 0)
        #expect(try server.command.run("gc").code == 0)
        let second = try deploy("second")
        #expect(second.code == 0 && second.output.hasPrefix("second: Active"), "\(second.output)\(second.error)")
        let answer = try server.fn("invoke", "second", "--payload", "3")
        #expect(answer.output.hasPrefix(#"{"echo":3,"#), "\(answer.error)")
    }
}
