import AgentClient
import AgentProtocol
import Foundation
import Testing

/// Functions of any kind of program in a real guest: a shell script, a compiled program.
///
/// A group of the image `base` stands for an instance; the test is the host of its function.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(5)))
struct ProgramFunctionGuestTests {
    /// Serves with what every shell has: bash's own network streams.
    private static let script = """
        #!/bin/bash
        connect() { exec 3<>"/dev/tcp/${AWS_LAMBDA_RUNTIME_API/:/\\/}"; }
        while connect; do
            printf 'GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3
            length=0
            while IFS= read -r line <&3; line=${line%$'\\r'}; [ -n "$line" ]; do
                case ${line,,} in
                lambda-runtime-aws-request-id:*) id=${line#*: } ;;
                content-length:*) length=${line#*: } ;;
                esac
            done
            IFS= read -r -N "$length" event <&3
            exec 3>&-
            body="{\\"echo\\":$event}"
            connect
            printf 'POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\\r\\n' "$id" >&3
            printf 'Content-Length: %d\\r\\nConnection: close\\r\\n\\r\\n%s' "${#body}" "$body" >&3
            cat <&3 >/dev/null
            exec 3>&-
        done
        """

    private static let program = """
        #include <arpa/inet.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>
        static int talk(const char *request, char *answer) {
            struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9001), .sin_addr = {htonl(INADDR_LOOPBACK)}};
            int s = socket(AF_INET, SOCK_STREAM, 0), count = 0, got;
            if (connect(s, (struct sockaddr *)&to, sizeof to)) exit(1);
            if (write(s, request, strlen(request)) < 0) exit(2);
            while ((got = read(s, answer + count, 4095 - count)) > 0) count += got;
            answer[count] = 0;
            close(s);
            return count;
        }
        int main(void) {
            char answer[4096], request[4096], id[100] = "";
            for (;;) {
                talk("GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nConnection: close\\r\\n\\r\\n", answer);
                char *at = strstr(answer, "Request-Id: ");
                if (!at) return 3;
                sscanf(at, "Request-Id: %99s", id);
                snprintf(request, sizeof request, "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.0\\r\\n"
                         "Content-Length: 12\\r\\n\\r\\n{\\"c\\":\\"done\\"}", id);
                talk(request, answer);
            }
        }
        """

    @Test func scriptsAndProgramsServe() throws {
        let guest = try FunctionGuest(image: "base")
        try guest.write(Self.script, to: "/var/task/bootstrap")
        let script = try guest.start(["/var/task/bootstrap"], [])
        #expect(try script.waitUntilReady(timeout: FunctionGuest.limit).phase == .invocationNext)
        for event in ["1", "{\"a\":[2]}"] {
            #expect(String(decoding: try guest.invoke(script, event).payload, as: UTF8.self) == "{\"echo\":\(event)}")
        }
        try guest.finish(script)

        let folder = FileManager.default.temporaryDirectory.appending(path: "aurora-bootstrap-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let source = folder.appending(path: "bootstrap.c")
        try Self.program.write(to: source, atomically: true, encoding: .utf8)
        let binary = folder.appending(path: "bootstrap")
        let compiler = try Process.run(
            URL(filePath: "/usr/bin/gcc"), arguments: ["-Os", "-static", "-s", "-o", binary.path, source.path])
        compiler.waitUntilExit()
        try #require(compiler.terminationStatus == 0)
        try guest.write(base64: try Data(contentsOf: binary).base64EncodedString(), to: "/var/task/bootstrap")
        let program = try guest.start(["/var/task/bootstrap"], [])
        _ = try program.waitUntilReady(timeout: FunctionGuest.limit)
        for _ in 0..<3 { #expect(String(decoding: try guest.invoke(program, "{}").payload, as: UTF8.self) == "{\"c\":\"done\"}") }
        try guest.finish(program)
    }

    @Test func aForkBombIsContained() throws {
        let guest = try FunctionGuest(image: "base")
        try guest.write(Self.script, to: "/var/task/bootstrap")
        let bomb = try guest.start(["/bin/sh", "-c", "b() { b | b & }; b; sleep 1000"], [], processesMax: 40)
        Thread.sleep(forTimeInterval: 0.5)
        // The agent answers, nothing of the bomb is left when it is killed, and the next function serves.
        try guest.finish(bomb)
        let script = try guest.start(["/var/task/bootstrap"], [])
        _ = try script.waitUntilReady(timeout: FunctionGuest.limit)
        #expect(String(decoding: try guest.invoke(script, "1").payload, as: UTF8.self) == "{\"echo\":1}")
        try guest.finish(script)
    }
}

/// Functions in a real guest: stock `awslambdaric`, and handlers that misbehave.
///
/// A group of the image `python3` stands for an instance; the test is the host of its function.
@Suite(.enabled(if: FunctionGuest.obstacle == nil, "functions cannot be run here"), .serialized, .timeLimit(.minutes(5)))
struct FunctionGuestTests {
    private static let application = """
        from snapshot_restore_py import register_before_snapshot, register_after_restore
        calls = ["loaded"]
        register_before_snapshot(lambda: calls.append("before"))
        register_after_restore(lambda: calls.append("after"))

        def handler(event, context):
            print("event", event)
            if event == "raise":
                raise ValueError("an odd value")
            if event == "exit":
                import os; os._exit(3)
            if event == "large":
                return "x" * 7_000_000
            while event == "hang":
                print("still here")
            return {"calls": calls, "id": context.aws_request_id, "client": context.client_context and context.client_context.custom}
        """

    @Test func theStockPythonRuntimeServes() throws {
        let guest = try FunctionGuest()
        try guest.write(Self.application, to: "/var/task/app.py")
        let python = ["/usr/bin/python3", "-m", "awslambdaric", "app.handler"]
        let channel = try guest.start(python, ["AWS_LAMBDA_INITIALIZATION_TYPE=snap-start", "AWS_LAMBDA_FUNCTION_NAME=f"])
        #expect(try channel.waitUntilReady(timeout: FunctionGuest.limit).phase == .restoreNext)

        // What the host of a restored instance sends: all in one go.
        var outcome = try guest.invoke(
            channel, "1", first: [.restored(FunctionRestored(entropy: [1, 2, 3]))], context: "{\"custom\":{\"a\":\"b\"}}")
        #expect(outcome.answer.kind == .response)
        let answer = String(decoding: outcome.payload, as: UTF8.self)
        #expect(answer == #"{"calls": ["loaded", "before", "after"], "id": "r-1", "client": {"a": "b"}}"#)
        #expect(String(decoding: outcome.log, as: UTF8.self).contains("event 1"))
        #expect(outcome.end.durationNanoseconds > 0)

        outcome = try guest.invoke(channel, "\"raise\"")
        #expect(outcome.answer.kind == .error)
        let said = String(decoding: outcome.payload, as: UTF8.self)
        for part in ["an odd value", "ValueError", "stackTrace", "app.py"] { #expect(said.contains(part)) }
        #expect(try guest.invoke(channel, "2").answer.kind == .response)

        // The runtime learns that its answer was too long, and what it does then is its own affair.
        #expect(try guest.invoke(channel, "\"large\"").end.outcome == .tooLarge)
        try guest.finish(channel)

        let second = try guest.start(python, [])
        #expect(try second.waitUntilReady(timeout: FunctionGuest.limit).phase == .invocationNext)
        let end = #expect(throws: FunctionError.self) { try guest.invoke(second, "\"exit\"") }
        guard case .exited(ExitStatus(.code, 3), let log) = end else { return #expect(Bool(false), "\(String(describing: end))") }
        #expect(String(decoding: log, as: UTF8.self).contains("event exit"))

        let third = try guest.start(python, [])
        _ = try third.waitUntilReady(timeout: FunctionGuest.limit)
        let late = #expect(throws: FunctionError.self) { try guest.invoke(third, "\"hang\"", timeout: .seconds(2)) }
        guard case .timedOut(let printed) = late else { return #expect(Bool(false), "\(String(describing: late))") }
        #expect(!printed.isEmpty && printed.count <= 65_536)
        try guest.finish(third)
    }

    @Test func errorsOfTheInitializationAreTold() throws {
        let guest = try FunctionGuest()
        try guest.write("import nothing_of_this_name", to: "/var/task/app.py")
        let channel = try guest.start(["/usr/bin/python3", "-m", "awslambdaric", "app.handler"], [])
        let error = #expect(throws: FunctionError.self) { try channel.waitUntilReady(timeout: FunctionGuest.limit) }
        guard case .runtime(let outcome) = error else { return #expect(Bool(false), "\(String(describing: error))") }
        #expect(outcome.answer.kind == .initializationError)
        #expect(String(decoding: outcome.payload, as: UTF8.self).contains("nothing_of_this_name"))
    }

    @Test func snapshotsAreBuilt() throws {
        let guest = try FunctionGuest(startsGroup: false)
        let code = "\(guest.aurora.home)/code"
        try FileManager.default.createDirectory(atPath: code, withIntermediateDirectories: true)
        try Self.application.write(toFile: "\(code)/app.py", atomically: true, encoding: .utf8)
        let first = try guest.build("f", code)
        #expect(first.contains("\"done\""), "\(first)")
        #expect(first.contains("\"runtime\""))
        let second = try guest.build("g", code)
        #expect(second.contains("\"done\""), "\(second)")
        // The runtime is there already.
        #expect(!second.contains("\"step\":{\"_0\":{\"runtime\""))
        try "raise KeyError('at the start')".write(toFile: "\(code)/app.py", atomically: true, encoding: .utf8)
        let failed = try guest.build("h", code)
        #expect(failed.contains("\"initialization\"") && failed.contains("at the start"), "\(failed)")
        #expect(try guest.build("i", "\(code)/nothing").contains("badCode"))
        let streams = try guest.aurora.run("store", "stat", "--format", "json").output
        #expect(streams.contains("function") == false || !streams.contains("function/h."), "a build that failed left its stream")
    }
}

/// A guest in which functions run, and the test as their host.
final class FunctionGuest {
    static let limit = Duration.seconds(180)

    /// Why functions cannot be run here; nil when they can.
    static let obstacle: String? = {
        if let reason = Command.obstacle { return reason }
        let prepared = ProcessInfo.processInfo.environment["AURORA_HOME"] ?? "/var/lib/aurora"
        guard FileManager.default.fileExists(atPath: "\(prepared)/images/python3/root.ext4") else {
            print("SKIPPED: tests of functions; run: aurora image build python3 --packages python3,ca-certificates --pip awslambdaric")
            return "no image python3"
        }
        return nil
    }()

    let aurora: Command
    private var requests = 0

    init(image: String = "python3", startsGroup: Bool = true) throws {
        aurora = try Command()
        guard startsGroup else { return }
        let result = try aurora.run("run", "-d", "--name", "f", "--image", image, "-m", "192M", "--", "sleep", "100000")
        try #require(result.code == 0, "\(result.error)")
    }

    /// Writes an executable file of the guest.
    func write(_ text: String, to path: String) throws { try write(base64: Data(text.utf8).base64EncodedString(), to: path) }

    /// Writes an executable file of the guest.
    func write(base64: String, to path: String) throws {
        let line = "mkdir -p /var/task && base64 -d >\(path).new && chmod 755 \(path).new && mv \(path).new \(path)"
        let result = try aurora.run(["exec", "-i", "f", "--", "sh", "-c", line], input: base64)
        try #require(result.code == 0, "\(result.error)")
    }

    /// Starts a runtime.
    func start(_ command: [String], _ environment: [String], processesMax: UInt32 = 200) throws -> FunctionChannel {
        let channel = try FunctionChannel(
            adopting: try VsockDialer.connect("\(aurora.runtime)/f/vsock.sock", port: FunctionLimits.vsockPort))
        _ = try channel.attach()
        try channel.start(
            FunctionStart(
                arguments: command.map { Text($0) }, environment: environment.map { Text($0) }, directory: "/var/task",
                processesMax: processesMax))
        return channel
    }

    /// Has a request served.
    func invoke(
        _ channel: FunctionChannel, _ event: String, first: [FunctionCommand] = [], context: String = "", timeout: Duration = limit
    ) throws -> FunctionOutcome {
        requests += 1
        let request = FunctionInvoke(
            requestIdentifier: Text("r-\(requests)"), deadlineMilliseconds: 4_000_000_000_000, functionARN: "arn:aws:lambda:x:1:function:f",
            clientContext: Text(context), payloadBytes: 0)
        return try channel.invoke(request, payload: Array(event.utf8), first: first, timeout: timeout)
    }

    /// Kills a runtime and waits for its end, if it has not ended already.
    func finish(_ channel: FunctionChannel) throws {
        guard channel.phase != .ended else { return }
        try channel.kill()
        while true {
            if case .exited = try channel.next(timeout: Self.limit) { return }
        }
    }

    /// Builds a function's snapshot; what the process said.
    func build(_ name: String, _ directory: String) throws -> String {
        let code = "\(directory).zip"
        let packed = try Process.run(
            URL(filePath: "/usr/bin/env"), arguments: ["bsdtar", "--format", "zip", "-cf", code, "-C", directory, "."])
        packed.waitUntilExit()
        let plan =
            #"{"function":{"name":"\#(name)","image":"","memoryBytes":134217728,"timeoutSeconds":3,"revision":"r1"},"#
            + #""runtime":"python3","handler":"app.handler","codePath":"\#(code)","environment":{},"isSnapStart":true,"#
            + #""initializationSeconds":60}"#
        return try aurora.run(["build-function"], input: plan).output
    }
}
