import AgentClient
import AgentProtocol
import Foundation
import Testing

/// The report of the real agent on a program that holds one of each kind of object.
@Suite(.enabled(if: AgentFixture.isPossible)) struct ObjectReportTests {
    private static let program = """
        import ctypes, os, select, signal, socket, struct, sys, threading, time
        libc = ctypes.CDLL(None, use_errno=True)
        path = sys.argv[1]
        f = open(path + "/data", "wb+"); f.write(b"x" * 1000); f.flush(); f.seek(123); 
        g = open(path + "/gone", "wb+"); g.write(b"y" * 77); g.flush(); os.unlink(path + "/gone")
        r, w = os.pipe(); os.write(w, b"abc")
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM); a.send(b"12345")
        u = socket.socket(socket.AF_UNIX); u.bind(path + "/sock"); u.listen(5)
        t = socket.socket(); t.bind(("127.0.0.1", 7001)); t.listen(5)
        c = socket.create_connection(("127.0.0.1", 7001)); s, _ = t.accept(); c.send(b"1234567")
        d = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); d.bind(("::1", 7002))
        m = os.memfd_create("memo"); os.ftruncate(m, 8192)
        master, slave = os.openpty()
        e = libc.eventfd(42, 0)
        p = select.epoll(); p.register(r, select.EPOLLIN)
        timer = libc.timerfd_create(1, 0)
        libc.timerfd_settime(timer, 0, struct.pack("qqqq", 7, 0, 1000, 0), None)
        mask = (ctypes.c_ulong * 16)(1 << 9)
        signals = libc.signalfd(-1, mask, 0)
        notify = libc.inotify_init(); libc.inotify_add_watch(notify, path.encode(), 2)
        child = os.fork()
        if child == 0: time.sleep(1000)
        handle = os.pidfd_open(child)
        shm = libc.shmget(0x1234, 12288, 0o1640)
        sem = libc.semget(0x4321, 3, 0o1600)
        queue = libc.msgget(0x777, 0o1600)
        libc.msgsnd(queue, struct.pack("q5s", 1, b"hello"), 5, 0)
        rt = ctypes.CDLL("librt.so.1", use_errno=True)
        fd = rt.shm_open(b"/named", os.O_CREAT | os.O_RDWR, 0o600); os.ftruncate(fd, 4096)
        mq = rt.mq_open(b"/letters", os.O_CREAT | os.O_RDWR, 0o600, None)
        rt.mq_send(mq, b"four", 4, 0)
        import mmap
        shared = mmap.mmap(f.fileno(), 1000)
        thread = threading.Thread(target=time.sleep, args=(1000,), daemon=True); thread.start()
        print("fds", f.fileno(), g.fileno(), r, w, a.fileno(), b.fileno(), u.fileno(), t.fileno(), c.fileno(), s.fileno(), d.fileno(),
              m, master, slave, e, p.fileno(), timer, signals, notify, handle, mq, os.getpid(), child, flush=True)
        time.sleep(1000)
        """

    /// What the program printed: the numbers of its descriptors by name.
    private struct Held {
        var numbers: [String: Int32] = [:]
        static let names = [
            "file", "gone", "read", "write", "a", "b", "unix", "listener", "client", "server", "datagram", "memory", "master", "slave",
            "event", "epoll", "timer", "signals", "notify", "handle", "queue", "process", "child",
        ]

        init(_ line: String) {
            let values = line.split(whereSeparator: \.isWhitespace).dropFirst().compactMap { Int32($0) }
            for (name, value) in zip(Held.names, values) { numbers[name] = value }
        }

        subscript(name: String) -> Int32 { numbers[name] ?? -1 }
    }

    private func start(_ agent: AgentFixture) throws -> (ExecSession, Held) {
        let session = try agent.client().start(
            StartRequest(arguments: ["python3", "-c", Text(ObjectReportTests.program), Text(agent.directory.path)]))
        var text = ""
        while !text.hasSuffix("\n") {
            switch try session.next(timeout: .seconds(120)) {
            case .output(let bytes): text += String(decoding: bytes, as: UTF8.self)
            case .error(let bytes): Issue.record("\(String(decoding: bytes, as: UTF8.self))")
            case .exited(let status):
                Issue.record("the program ended: \(status)")
                throw CancellationError()
            case .inputAllowed: break
            }
        }
        return (session, Held(text))
    }

    @Test func describesEachKindOfDescriptor() throws {
        let agent = try AgentFixture()
        let (session, held) = try start(agent)
        let report = try agent.client().objects()
        #expect(!report.isTruncated)
        let own = report.descriptors.filter { $0.process == session.processNumber }
        func object(_ name: String) throws -> DescriptorObject { try #require(own.first { $0.number == held[name] }, "\(name)") }

        let file = try object("file")
        #expect(file.kind == .file)
        #expect(file.target.string == agent.directory.path + "/data")
        #expect(file.offset == 123)
        #expect(file.size == 1000)
        #expect(!file.isDeleted)
        #expect(file.isReadable && file.isWritable)
        let gone = try object("gone")
        #expect(gone.isDeleted)
        #expect(gone.target.string == agent.directory.path + "/gone")
        #expect(gone.size == 77)
        #expect(try object("memory").kind == .memoryFile)
        #expect(try object("memory").size == 8192)
        #expect(try object("event").detail == .counter(42))
        // The kernel adds EPOLLERR and EPOLLHUP to EPOLLIN.
        #expect(try object("epoll").detail == .members([EpollMember(descriptor: held["read"], events: 0x19)]))
        guard case .timer(let clock, let remaining, let interval) = try object("timer").detail else { throw CancellationError() }
        #expect(clock == 1)
        #expect((900_000_000_000...1_000_000_000_000).contains(remaining))
        #expect(interval == 7_000_000_000)
        #expect(try object("signals").detail == .signals(1 << 9))
        #expect(try object("notify").detail == .watches(1))
        #expect(try object("handle").detail == .process(held["child"]))
        #expect(try object("queue").kind == .messageQueue)
        let slave = try object("slave")
        #expect(slave.kind == .terminal)
        #expect(try object("master").kind == .terminalMaster)
        #expect(try object("master").detail == slave.detail)
    }

    @Test func findsPeers() throws {
        let agent = try AgentFixture()
        let (session, held) = try start(agent)
        let report = try agent.client().objects()
        let index = PeerIndex(report)
        func peers(_ name: String) throws -> [Int32] {
            let object = try #require(report.descriptors.first { $0.process == session.processNumber && $0.number == held[name] })
            return index.peers(of: object).filter { $0.process == session.processNumber }.map(\.descriptor)
        }
        #expect(try peers("read") == [held["write"]])
        #expect(try peers("write") == [held["read"]])
        #expect(try peers("client") == [held["server"]])
        #expect(try peers("master") == [held["slave"]])
        let unix = try #require(report.descriptors.first { $0.process == session.processNumber && $0.number == held["a"] })
        let socket = try #require(index.unixSocket(of: unix))
        // Kernels without unix_diag do not tell.
        if socket.peerInode != 0 { #expect(try peers("a") == [held["b"]]) }
    }

    @Test func describesSockets() throws {
        let agent = try AgentFixture()
        let (session, held) = try start(agent)
        let report = try agent.client().objects()
        let index = PeerIndex(report)
        func object(_ name: String) throws -> DescriptorObject {
            try #require(report.descriptors.first { $0.process == session.processNumber && $0.number == held[name] })
        }
        let listener = try #require(index.internetSocket(of: try object("listener")))
        #expect(listener.transport == .tcp && listener.state == .listening)
        #expect(listener.localAddress == "127.0.0.1" && listener.localPort == 7001)
        let client = try #require(index.internetSocket(of: try object("client")))
        #expect(client.state == .established && client.remotePort == 7001)
        #expect(try #require(index.internetSocket(of: try object("server"))).receiveQueue == 7)
        let datagram = try #require(index.internetSocket(of: try object("datagram")))
        #expect(datagram.transport == .udp6 && datagram.localAddress == "::1" && datagram.localPort == 7002)
        let unix = try #require(index.unixSocket(of: try object("unix")))
        #expect(unix.state == .listening && unix.path.string == agent.directory.path + "/sock")
        let b = try #require(index.unixSocket(of: try object("b")))
        #expect(b.state == .connected && b.type == .stream)
        if b.peerInode != 0 { #expect(b.receiveQueue == 5) }
    }

    @Test func describesProcessesMappingsAndInterprocessObjects() throws {
        let agent = try AgentFixture()
        let (session, held) = try start(agent)
        let report = try agent.client().objects()
        let process = try #require(report.processes.first { $0.number == session.processNumber })
        #expect(process.name == "python3" && process.parent == 1 && process.group == process.number && process.session == process.number)
        #expect(process.threads.count == 2)
        #expect(process.arguments.last?.string == agent.directory.path)
        #expect(process.residentBytes > 1_000_000)
        #expect(report.processes.first { $0.number == held["child"] }?.parent == process.number)
        #expect(report.processes.first?.number == 1)

        let mapped = Text(agent.directory.path + "/data")
        let shared = try #require(report.mappings.first { $0.process == process.number && $0.path == mapped })
        #expect(shared.isShared && shared.bytes == 4096 && shared.isWritable && !shared.isExecutable)
        #expect(report.mappings.contains { $0.process == process.number && $0.path == "[heap]" && !$0.isShared })

        let segment = try #require(report.sysvObjects.first { $0.kind == .sharedMemory && $0.key == 0x1234 })
        #expect(segment.bytes == 12288 && segment.mode == 0o640 && segment.creator == process.number)
        #expect(report.sysvObjects.first { $0.kind == .semaphores && $0.key == 0x4321 }?.count == 3)
        let queue = try #require(report.sysvObjects.first { $0.kind == .messageQueue && $0.key == 0x777 })
        #expect(queue.count == 1 && queue.bytes == 5)
        #expect(report.namedObjects.first { $0.kind == .sharedMemory && $0.name == "/named" }?.bytes == 4096)
        #expect(report.namedObjects.first { $0.kind == .messageQueue && $0.name == "/letters" }?.bytes == 4)
    }

    @Test func leavesOutWhatIsNotAskedFor() throws {
        let agent = try AgentFixture()
        let report = try agent.client().objects(ObjectsRequest.processes)
        #expect(report.processes.count >= 1)
        #expect(report.descriptors.isEmpty && report.mappings.isEmpty && report.sysvObjects.isEmpty && report.unixSockets.isEmpty)
    }

    @Test func goesThroughJSONUnchanged() throws {
        let agent = try AgentFixture()
        let held = try start(agent)
        let report = try agent.client().objects()
        let json = try JSONEncoder().encode(report)
        #expect(try JSONDecoder().decode(ObjectReport.self, from: json) == report)
        #expect(String(decoding: json, as: UTF8.self).contains("\"kind\":\"eventCounter\""))
        withExtendedLifetime(held) {}
    }
}
