import AgentProtocol
import Testing

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

/// Random and mutated bytes for every decoder: any outcome but a trap is fine, and what is accepted must survive a round trip.
@Suite struct HostileBytesTests {
    private static let rounds = 20_000
    private static let seed = UInt64.random(in: 1 ... .max)

    /// One decoder and a valid message to mutate.
    private struct Subject: Sendable {
        let name: String
        let sample: [UInt8]
        let accepts: @Sendable ([UInt8]) -> Bool
        let survives: @Sendable ([UInt8]) -> Bool

        init<Body: MessageBody>(_ body: Body) {
            name = "\(Body.self)"
            sample = body.encoded
            accepts = { (try? Body(payload: $0)) != nil }
            survives = { bytes in
                guard let decoded = try? Body(payload: bytes) else { return true }
                guard let again = try? Body(payload: decoded.encoded) else { return false }
                return again.encoded == decoded.encoded
            }
        }
    }

    private static var report: ObjectReport {
        var report = ObjectReport()
        var process = ProcessObject()
        process.arguments = ["a", "b"]
        process.threads = [ThreadObject(), ThreadObject()]
        report.processes = [process, ProcessObject()]
        let details: [DescriptorDetail] = [
            .none, .counter(1), .timer(clock: 1, remaining: 2, interval: 3), .members([EpollMember(descriptor: 1, events: 2)]), .signals(4),
            .watches(5), .terminal(6), .process(7),
        ]
        report.descriptors = details.map {
            var object = DescriptorObject()
            object.detail = $0
            return object
        }
        report.unixSockets = [UnixSocketObject()]
        report.internetSockets = [InternetSocketObject()]
        report.mappings = [MappingObject()]
        report.sysvObjects = [SysVObject()]
        report.namedObjects = [NamedObject()]
        return report
    }

    private static let subjects = [
        Subject(Hello()), Subject(Welcome(version: 1, uptimeNanoseconds: 5, kernelRelease: "6.1", bootFailures: ["a", "b"])),
        Subject(Failure(.system, errno: 2, "x")), Subject(WindowSize(rows: 1, columns: 2)),
        Subject(
            StartRequest(
                arguments: ["a", "b"], environment: ["c=d"], directory: "/", user: "u", terminal: WindowSize(rows: 1, columns: 2))),
        Subject(SessionNumber(1)), Subject(SignalRequest(signal: 9)), Subject(ExitStatus(.code, 1)), Subject(StdinCredit(7)),
        Subject(
            ConfigureRequest(
                hostname: "h", network: .init(interface: "e", address: 1, prefixLength: 2, gateway: 3), resolvers: ["a"], hosts: ["b"])),
        Subject(MountRequest(device: "d", path: "/p", fileSystem: "f")), Subject(ClockRequest(wallClockNanoseconds: 1)),
        Subject(ReseedRequest(entropy: [1, 2, 3])), Subject(ProxyRequest(port: 1)), Subject(ShutdownRequest(graceMilliseconds: 1)),
        Subject(ObjectsRequest()), Subject(report),
    ]

    /// Changes some bytes, lengths or both.
    private func mutate(_ bytes: [UInt8], _ random: inout SeededGenerator) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            switch Int.random(in: 0..<5, using: &random) {
            case 0 where !bytes.isEmpty: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
            case 1:
                for _ in 0..<Int.random(in: 1...8, using: &random) { bytes.append(UInt8.random(in: 0...255, using: &random)) }
            case 2 where bytes.count >= 4:
                // A length field of extremes.
                let start = Int.random(in: 0...bytes.count - 4, using: &random)
                let value: [UInt8] = Bool.random(using: &random) ? [255, 255, 255, 255] : [0, 0, 4, 0]
                bytes.replaceSubrange(start..<start + 4, with: value)
            case _ where !bytes.isEmpty:
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            default: break
            }
        }
        return bytes
    }

    @Test func decodersSurviveMutations() {
        print("HostileBytesTests seed=\(Self.seed)")
        var random = SeededGenerator(seed: Self.seed)
        for subject in Self.subjects {
            for step in 0..<Self.rounds / 4 {
                let bytes = mutate(subject.sample, &random)
                if !subject.survives(bytes) {
                    Issue.record("\(subject.name) does not round-trip: seed=\(Self.seed) step=\(step) bytes=\(bytes)")
                    break
                }
            }
        }
    }

    @Test func everyPrefixOfAMessageIsRefused() {
        for subject in Self.subjects {
            #expect(subject.accepts(subject.sample), "\(subject.name)")
            for count in 0..<subject.sample.count {
                #expect(!subject.accepts([UInt8](subject.sample.prefix(count))), "\(subject.name), \(count) bytes")
            }
        }
    }

    @Test func streamsSurviveMutations() {
        var random = SeededGenerator(seed: Self.seed)
        var stream: [UInt8] = []
        for type in MessageType.allCases { Frame.appendMessage(type, request: 1, payload: Self.report.encoded, to: &stream) }
        for step in 0..<Self.rounds / 10 {
            let bytes = mutate(stream, &random)
            var decoder = FrameDecoder()
            var assembler = MessageAssembler(bytesMax: 10_000)
            var position = 0
            do throws(ProtocolFault) {
                while position < bytes.count {
                    let piece = min(bytes.count - position, Int.random(in: 1...500, using: &random))
                    decoder.append(bytes[position..<position + piece])
                    position += piece
                    while let frame = try decoder.next() { _ = try assembler.add(frame) }
                    // What is held is bounded, whatever comes.
                    if decoder.pendingBytes > Frame.headerBytes + AgentLimits.framePayloadBytesMax + piece {
                        Issue.record("unbounded buffer: seed=\(Self.seed) step=\(step)")
                    }
                }
            } catch { continue }
        }
    }

    @Test func hugeCountsAreRefusedBeforeMemoryIsTaken() {
        var writer = ByteWriter()
        writer.write(false)
        writer.write(UInt32.max)
        #expect(throws: ProtocolFault(.tooLong, at: 1)) { try ObjectReport(payload: writer.bytes) }
        var plausible = ByteWriter()
        plausible.write(false)
        plausible.write(UInt32(AgentLimits.listCountMax))
        #expect(throws: ProtocolFault(.truncated, at: 1)) { try ObjectReport(payload: plausible.bytes) }
    }
}
