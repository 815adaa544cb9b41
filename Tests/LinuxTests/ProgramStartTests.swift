import CLinux
import Foundation
import Linux
import Testing

@Suite struct ProgramStartTests {
    /// What a program writes to its standard output.
    private func output(_ words: [String], environment: [[UInt8]]) throws -> (text: String, status: Int32) {
        let path = FileManager.default.temporaryDirectory.appending(path: "aurora-start-\(UUID().uuidString.prefix(8))").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT)
        let process = try ProgramStart(words[0], words, environment: environment).start([(0, 0), (file.rawValue, 1), (2, 2)])
        var status: Int32 = 0
        while clinux_wait_for(process, &status) == -Int(EINTR) {}
        let bytes = try DurableFile.read(path, bytesMax: 1 << 20) ?? []
        return (String(decoding: bytes, as: UTF8.self), status)
    }

    @Test func onlyWhatIsGivenArrives() throws {
        // Whatever this process has blocked, ignored or open.
        clinux_ignore_signal(SIGPIPE)
        let script = "env; grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | wc -l"
        let result = try output(["/bin/sh", "-c", script], environment: [Array("A=b c".utf8), Array("PATH=/usr/bin:/bin".utf8)])
        #expect(result.status == 0)
        let lines = Set(result.text.split(separator: "\n").map(String.init))
        #expect(lines.contains("A=b c"))
        #expect(lines.allSatisfy { !$0.contains("AURORA_") && !$0.hasPrefix("HOME=") }, "\(result.text)")
        #expect(lines.contains("SigBlk:\t0000000000000000"))
        // The C library's own two are ignored by posix_spawn(3) itself.
        #expect(lines.contains("SigIgn:\t0000000000000000") || lines.contains("SigIgn:\t0000000180000000"), "\(result.text)")
        // 0, 1, 2 and the directory being listed.
        #expect(lines.contains("4"), "\(result.text)")
    }

    @Test func secretsAreNotPassedOn() throws {
        setenv("AWS_SECRET_ACCESS_KEY", "secret", 1)
        setenv("AURORA_TEST_TOKEN", "secret", 1)
        setenv("AURORA_TEST_PLACE", "place", 1)
        defer { for name in ["AWS_SECRET_ACCESS_KEY", "AURORA_TEST_TOKEN", "AURORA_TEST_PLACE"] { unsetenv(name) } }
        let passed = OwnProcess.passedEnvironment().map { String(decoding: $0, as: UTF8.self) }
        #expect(passed.contains("AURORA_TEST_PLACE=place"))
        #expect(!passed.contains { $0.contains("secret") })
        #expect(passed.contains { $0.hasPrefix("PATH=") })
    }

    @Test func missingProgramIsAnError() throws {
        let error = #expect(throws: SystemError.self) { try ProgramStart("/no/such/program", ["x"]).start([]) }
        #expect(error?.errno == .noEntry)
    }
}
