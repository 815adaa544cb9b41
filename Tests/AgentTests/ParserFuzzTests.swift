import AgentProtocol
import Testing

@testable import GuestAgentCore

/// Mutated kernel texts for every parser: a trap would end the agent, and with it the guest.
@Suite struct ParserFuzzTests {
    private static let rounds = 4_000
    private static let seed = UInt64.random(in: 1 ... .max)

    private static let samples = [
        "31714 (a b) S 31705 31700 4070 34816 31714 4194304 101 0 0 0 7 9 0 0 20 0 3 0 496339 3133440 418 1844674407370955161 944",
        "Uid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\nclockid: 1\nit_value: (999, 500000000)\nit_interval: (7, 0)\n",
        "pos:\t1\nflags:\t02\ntfd:  5 events: 19 data: 5\neventfd-count: 2a\nsigmask:\t02\ninotify wd:1\nPid:\t9\ntty-index:\t4\n",
        "Num RefCount\n0000: 00000003 00000000 00010000 0001 03 483133 /x\n",
        "sl\n 0: 0100007F:18EB 00000000:0000 0A 00000001:00000002 00:00000000 00000000 105 0 627 1\n",
        "sl\n 0: 00000000000000000000000001000000:0050 B80D0120000000000000000001000000:1000 01 0:0 0:0 0 0 0 9 1\n",
        "7f00-7fff rw-s 00000000 00:01 77 /dev/shm/a b (deleted)\n",
        "key shmid perms size cpid lpid nattch uid gid\n 4660 3 1640 12288 100 101 2 1000 1001 0 0 0 0\nQSIZE:1\n",
        "root:x:0:0:r:/root:/bin/sh\na:x:1:2::/h:\ntty:x:5:a,b\nquiet aurora.root=/dev/vda x.y=\"1 2\" z",
    ]

    private static func runAll(_ bytes: [UInt8], _ random: inout some RandomNumberGenerator) {
        _ = ProcessParser.parseStat(bytes)
        _ = ProcessParser.isKernelThread(stat: bytes)
        _ = ProcessParser.parseIdentity(status: bytes)
        _ = ProcessParser.parseArguments(cmdline: bytes)
        for kind in [.epoll, .timer, .inotify, .file] as [DescriptorObject.Kind] {
            var object = DescriptorObject()
            object.kind = kind
            DescriptorParser.parseInfo(bytes, into: &object)
        }
        _ = DescriptorParser.kind(link: Text(bytes), mode: UInt32.random(in: 0...0o177777, using: &random))
        _ = DescriptorParser.terminalNumber(link: Text(bytes))
        _ = SocketParser.parseUnix(bytes, limit: 10)
        _ = SocketParser.parseInternet(bytes, .tcp6, limit: 10)
        _ = MappingParser.parse(bytes, process: 1, limit: 10)
        for kind in SysVObject.Kind.allCases { _ = InterprocessParser.parseSysV(bytes, kind, limit: 10) }
        _ = InterprocessParser.parseQueueBytes(bytes)
        _ = Accounts.resolve(Text(bytes.prefix(8)), passwd: bytes, group: bytes)
        _ = KernelCommandLine(bytes).moduleParameters(Text(bytes.prefix(3)))
        _ = KernelCommandLine(bytes).value(of: "aurora.root")
        var sockets: [UnixSocketObject] = []
        _ = SocketDiagnostics.parse(bytes, into: &sockets, limit: 10)
    }

    @Test func parsersSurviveMutations() {
        print("ParserFuzzTests seed=\(Self.seed)")
        var random = SeededGenerator(seed: Self.seed)
        let interesting = [UInt8]("-:()[]\n\t \0,/9f\"@".utf8) + [255]
        for round in 0..<Self.rounds {
            var bytes = [UInt8](Self.samples[round % Self.samples.count].utf8)
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                let position = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<4, using: &random) {
                case 0: bytes[position] = interesting.randomElement(using: &random) ?? 0
                case 1: bytes.insert(contentsOf: [UInt8](repeating: 57, count: 30), at: position)
                case 2 where bytes.count > 2: bytes.removeSubrange(position..<Int.random(in: position..<bytes.count, using: &random))
                default: bytes[position] = UInt8.random(in: 0...255, using: &random)
                }
            }
            Self.runAll(bytes, &random)
        }
    }

    @Test func diagnosticsSurviveRandomDatagrams() {
        var random = SeededGenerator(seed: Self.seed)
        for _ in 0..<Self.rounds {
            var writer = ByteWriter()
            let count = Int.random(in: 0...80, using: &random)
            writer.write(UInt32(count))
            writer.write(UInt16(20))
            while writer.bytes.count < Int.random(in: 8...90, using: &random) {
                writer.write(UInt16.random(in: 0...16, using: &random))
            }
            var sockets: [UnixSocketObject] = []
            _ = SocketDiagnostics.parse(writer.bytes, into: &sockets, limit: 10)
            #expect(sockets.count <= 10)
        }
    }
}

/// A small generator whose whole state is its seed, so that a failure can be repeated.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
