import AgentProtocol
import Testing

/// The bytes of docs/agent-protocol.md.
///
/// A change here is a new protocol version.
@Suite struct GoldenFrameTests {
    private func hex(_ bytes: [UInt8]) -> String { bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }

    private func check<Body: MessageBody & Equatable>(
        _ body: Body, _ expected: String, _ location: SourceLocation = #_sourceLocation
    ) throws {
        #expect(hex(body.encoded) == expected, sourceLocation: location)
        #expect(try Body(payload: body.encoded) == body, sourceLocation: location)
    }

    @Test func header() throws {
        var bytes: [UInt8] = []
        Frame(.stdin, request: 0x0403_0201, hasMore: true, payload: [0xAA, 0xBB]).append(to: &bytes)
        #expect(hex(bytes) == "4155" + "07" + "01" + "01020304" + "02000000" + "00000000" + "aabb")
        var decoder = FrameDecoder()
        decoder.append(bytes)
        #expect(try decoder.next() == Frame(.stdin, request: 0x0403_0201, hasMore: true, payload: [0xAA, 0xBB]))
        #expect(try decoder.next() == nil)
    }

    @Test func greeting() throws {
        try check(Hello(oldestVersion: 1, newestVersion: 2), "01000200")
        try check(
            Welcome(version: 1, uptimeNanoseconds: 258, kernelRelease: "6.1", bootFailures: ["x"]),
            "0100" + "0201000000000000" + "03000000362e31" + "01000000" + "0100000078")
        try check(Failure(.notExecutable, errno: 13, "/a"), "03" + "0d000000" + "020000002f61")
    }

    @Test func session() throws {
        try check(
            StartRequest(
                arguments: ["a", "bc"], environment: ["K=V"], directory: "/", user: "u", terminal: WindowSize(rows: 24, columns: 80),
                wantsInput: true, survivesDisconnect: true),
            "07" + "18005000" + "010000002f" + "0100000075" + "02000000" + "0100000061" + "020000006263" + "01000000" + "030000004b3d56")
        try check(StartRequest(arguments: ["a"]), "00" + "00000000" + "00000000" + "00000000" + "01000000" + "0100000061" + "00000000")
        try check(SessionNumber(300), "2c010000")
        try check(SignalRequest(session: 5, signal: 15, wholeGroup: true), "05000000" + "0f000000" + "01")
        try check(ExitStatus(.signal, 9), "0109")
        try check(StdinCredit(4096), "00100000")
        try check(WindowSize(rows: 1, columns: 2), "01000200")
    }

    @Test func system() throws {
        try check(
            ConfigureRequest(
                hostname: "h", network: .init(interface: "eth0", address: 0x0200_1EAC, prefixLength: 30, gateway: 0x0100_1EAC),
                resolvers: ["r"], hosts: ["l"], wallClockNanoseconds: 1),
            "0100000068" + "01" + "0400000065746830" + "ac1e0002" + "1e" + "ac1e0001" + "01000000" + "0100000072" + "01000000"
                + "010000006c" + "0100000000000000")
        try check(
            MountRequest(device: "d", path: "/p", fileSystem: "f", readOnly: true), "0100000064" + "020000002f70" + "0100000066" + "01")
        try check(ClockRequest(wallClockNanoseconds: 2), "0200000000000000")
        try check(ReseedRequest(entropy: [7, 8]), "020000000708")
        try check(ProxyRequest(port: 8080), "901f")
        try check(ShutdownRequest(action: .reboot, graceMilliseconds: 10), "01" + "0a000000")
        try check(ObjectsRequest(), "0f000000")
    }

    @Test func objectReport() throws {
        var report = ObjectReport()
        var descriptor = DescriptorObject()
        descriptor.process = 2
        descriptor.number = 3
        descriptor.kind = .timer
        descriptor.flags = 2
        descriptor.inode = 9
        descriptor.target = "t"
        descriptor.detail = .timer(clock: 1, remaining: 5, interval: 6)
        report.descriptors = [descriptor]
        try check(
            report,
            "00" + "00000000" + "01000000" + "02000000" + "03000000" + "0c" + "02000000" + "0000000000000000" + "0000000000000000"
                + "0900000000000000" + "0000000000000000" + "00" + "0100000074" + "02" + "01000000" + "0500000000000000"
                + "0600000000000000" + "00000000" + "00000000" + "00000000" + "00000000" + "00000000")
    }

    @Test func objects() throws {
        var mapping = MappingObject()
        mapping.process = 1
        mapping.path = "m"
        mapping.isShared = true
        mapping.regions = 2
        mapping.bytes = 3
        try check(mapping, "01000000" + "010000006d" + "0000000000000000" + "01" + "00" + "00" + "00" + "02000000" + "0300000000000000")
        var unix = UnixSocketObject()
        unix.inode = 1
        unix.type = .sequentialPacket
        unix.state = .listening
        unix.path = "@a"
        try check(unix, "0100000000000000" + "05" + "05" + "020000004061" + "0000000000000000" + "00000000" + "00000000")
        var named = NamedObject()
        named.kind = .messageQueue
        named.name = "/q"
        try check(named, "03" + "020000002f71" + "0000000000000000" + "00000000" + "00000000" + "00000000")
    }
}
