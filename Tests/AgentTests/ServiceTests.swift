import AgentClient
import AgentProtocol
import Foundation
import Linux
import Testing

/// What the real agent does besides running programs.
@Suite(.enabled(if: AgentFixture.isPossible)) struct ServiceTests {
    @Test func greetsAndAnswersPings() throws {
        let agent = try AgentFixture()
        let client = try agent.client()
        #expect(client.welcome.version == agentProtocolVersion)
        #expect(!client.welcome.kernelRelease.isEmpty)
        for _ in 0..<100 { try client.ping() }
    }

    @Test func configuresNameAndFiles() throws {
        let agent = try AgentFixture()
        try agent.client().configure(
            ConfigureRequest(hostname: "kiwi", resolvers: ["192.0.2.1", "192.0.2.2"], hosts: ["192.0.2.7\tstore"]))
        #expect(try agent.run(["uname", "-n"]).output == "kiwi\n")
        let hosts = try String(contentsOf: agent.directory.appendingPathComponent("hosts"), encoding: .utf8)
        #expect(hosts.contains("127.0.1.1\tkiwi\n"))
        #expect(hosts.hasSuffix("192.0.2.7\tstore\n"))
        let resolvers = try String(contentsOf: agent.directory.appendingPathComponent("resolv.conf"), encoding: .utf8)
        #expect(resolvers == "nameserver 192.0.2.1\nnameserver 192.0.2.2\n")
    }

    @Test func configuresANetworkInterface() throws {
        let agent = try AgentFixture()
        guard try agent.run(["sh", "-c", "ip link add eth0 type dummy"]).status.shellCode == 0 else { return }
        // 172.30.0.2/30 and 172.30.0.1, first byte lowest.
        let network = ConfigureRequest.Network(interface: "eth0", address: 0x0200_1EAC, prefixLength: 30, gateway: 0x0100_1EAC)
        try agent.client().configure(ConfigureRequest(network: network))
        #expect(try agent.run(["ip", "-4", "-o", "address", "show", "eth0"]).output.contains("172.30.0.2/30"))
        #expect(try agent.run(["ip", "route"]).output.contains("default via 172.30.0.1 dev eth0"))
    }

    @Test func saysWhichStepOfAConfigurationFailed() throws {
        let agent = try AgentFixture()
        let network = ConfigureRequest.Network(interface: "nope0", address: 0x0200_1EAC, prefixLength: 30, gateway: 0)
        let error = #expect(throws: AgentError.self) { try agent.client().configure(ConfigureRequest(network: network)) }
        #expect(error?.description == "Cannot set up interface nope0: No such device")
    }

    @Test func mountsAndRefusesToMount() throws {
        let agent = try AgentFixture()
        let path = agent.directory.path + "/made/mount"
        try agent.client().mount(MountRequest(device: "tmpfs", path: Text(path), fileSystem: "tmpfs"))
        #expect(try agent.run(["stat", "-f", "-c", "%T", path]).output == "tmpfs\n")
        let error = #expect(throws: AgentError.self) {
            try agent.client().mount(MountRequest(device: "/dev/none", path: Text(path), fileSystem: "ext4"))
        }
        #expect(error?.description == "Cannot mount /dev/none on \(path): No such file or directory")
    }

    /// A directory is mounted a second time, for reading only where that is wanted.
    @Test(.enabled(if: geteuid() == 0)) func mountsDirectoriesAgain() throws {
        let agent = try AgentFixture()
        let (source, path) = (agent.directory.path + "/source", agent.directory.path + "/second")
        #expect(try agent.run(["sh", "-c", "mkdir \(source) && echo there >\(source)/file"]).status == ExitStatus(.code, 0))
        try agent.client().mount(MountRequest(device: Text(source), path: Text(path), fileSystem: "", readOnly: true))
        #expect(try agent.run(["cat", path + "/file"]).output == "there\n")
        #expect(try agent.run(["sh", "-c", "echo x >\(path)/file"]).status != ExitStatus(.code, 0))
        #expect(try agent.run(["sh", "-c", "echo x >\(source)/file"]).status == ExitStatus(.code, 0))
    }

    @Test(.enabled(if: geteuid() == 0)) func reseedsTheGenerator() throws {
        let agent = try AgentFixture()
        try agent.client().reseed(entropy: [UInt8](repeating: 0x5A, count: 64))
        try agent.client().sync()
    }

    @Test func proxiesToALoopbackPort() throws {
        let agent = try AgentFixture()
        let server = """
            import socket
            s = socket.socket(); s.bind(("127.0.0.1", 8080)); s.listen(); print("ready", flush=True)
            c, _ = s.accept()
            n = 0
            while True:
                b = c.recv(65536)
                if not b: break
                n += len(b); c.sendall(b)
            c.sendall(b"end %d" % n)
            """
        let session = try agent.client().start(StartRequest(arguments: ["python3", "-c", Text(server)]))
        #expect(try session.next(timeout: .seconds(120)) == .output([UInt8]("ready\n".utf8)))
        let stream = try agent.client().proxy(port: 8080)
        let number = stream.rawValue
        let payload = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let writer = Thread { StreamHelper.writeAll(payload, to: number) }
        writer.start()
        let received = StreamHelper.readToEnd(number)
        #expect(received.prefix(payload.count).elementsEqual(payload))
        #expect(received.dropFirst(payload.count).elementsEqual("end 3000000".utf8))
    }

    @Test func refusesToProxyToAClosedPort() throws {
        let agent = try AgentFixture()
        let error = #expect(throws: AgentError.self) { _ = try agent.client().proxy(port: 9) }
        guard case .refused(let failure) = error else { throw CancellationError() }
        #expect(failure.errno == ECONNREFUSED)
    }

    @Test func shutsDownWithAGraceForTheStubborn() throws {
        let agent = try AgentFixture()
        let polite = try agent.client().start(StartRequest(arguments: ["sleep", "100"]))
        let stubborn = try agent.client().start(StartRequest(arguments: ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]))
        #expect(try stubborn.next(timeout: .seconds(120)) == .output([UInt8]("up\n".utf8)))
        let start = ContinuousClock.now
        try agent.client().shutdown(ShutdownRequest(graceMilliseconds: 300))
        #expect(try ExecRelay.collect(polite).status == ExitStatus(.signal, 15))
        #expect(try ExecRelay.collect(stubborn).status == ExitStatus(.signal, 9))
        #expect(agent.waitForEnd() == 0)
        #expect(ContinuousClock.now - start >= .milliseconds(300))
    }
}
