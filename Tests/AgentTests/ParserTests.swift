import AgentProtocol
import Testing

@testable import GuestAgentCore

/// The parsers of kernel texts, on texts captured from real kernels and on the odd cases of proc(5).
@Suite struct ParserTests {
    private func bytes(_ text: String) -> [UInt8] { [UInt8](text.utf8) }

    @Test func statWithAnOddName() throws {
        let fields = "31705 31700 4070 34816 31714 4194304 101 0 0 0 7 9 0 0 20 0 3 0 496339 3133440 418 18446744073709551615 944"
        let text = bytes("31714 (a) R (b) c) S \(fields)")
        let process = try #require(ProcessParser.parseStat(text))
        #expect(process.number == 31714 && process.name == "a) R (b) c" && process.state == "S")
        #expect(process.parent == 31705 && process.group == 31700 && process.session == 4070 && process.terminal == 34816)
        #expect(process.userTicks == 7 && process.systemTicks == 9 && process.startTicks == 496339)
        #expect(process.virtualBytes == 3_133_440 && process.residentBytes == 418 * 4096)
        #expect(!ProcessParser.isKernelThread(stat: text))
        #expect(ProcessParser.isKernelThread(stat: bytes("2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0")))
        #expect(ProcessParser.parseStat(bytes("31714 (a) S 1 2")) == nil)
        #expect(ProcessParser.parseStat(bytes("x")) == nil)
    }

    @Test func statusAndCommandLine() throws {
        let status = bytes("Name:\tx\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t6\t7\t8\n")
        let identity = try #require(ProcessParser.parseIdentity(status: status))
        #expect(identity.user == 1001 && identity.group == 6)
        #expect(ProcessParser.parseIdentity(status: bytes("Name:\tx\n")) == nil)
        #expect(ProcessParser.parseArguments(cmdline: bytes("sh\0-c\0\0x y\0")) == ["sh", "-c", "", "x y"])
        #expect(ProcessParser.parseArguments(cmdline: bytes("nginx: master")) == ["nginx: master"])
        #expect(ProcessParser.parseArguments(cmdline: []).isEmpty)
    }

    @Test func linksAndModes() {
        let cases: [(Text, UInt32, DescriptorObject.Kind)] = [
            ("pipe:[12]", 0o010600, .pipe), ("socket:[12]", 0o140777, .socket), ("/memfd:x (deleted)", 0o100777, .memoryFile),
            ("anon_inode:[eventfd]", 0o600, .eventCounter), ("anon_inode:[timerfd]", 0o600, .timer),
            ("anon_inode:[eventpoll]", 0o600, .epoll),
            ("anon_inode:[signalfd]", 0o600, .signals), ("anon_inode:inotify", 0o600, .inotify),
            ("anon_inode:[pidfd]", 0o600, .processHandle),
            ("anon_inode:[io_uring]", 0o600, .other), ("/a/b", 0o100644, .file), ("/a", 0o040755, .directory),
            ("/a/fifo", 0o010644, .namedPipe),
            ("/dev/vda", 0o060660, .blockDevice), ("/dev/null", 0o020666, .characterDevice), ("/dev/pts/3", 0o020620, .terminal),
            ("/dev/ptmx", 0o020666, .terminalMaster), ("/dev/tty", 0o020666, .terminal),
        ]
        for (link, mode, kind) in cases { #expect(DescriptorParser.kind(link: link, mode: mode) == kind, "\(link)") }
        #expect(DescriptorParser.terminalNumber(link: "/dev/pts/17") == 17)
        #expect(DescriptorParser.terminalNumber(link: "/dev/pts/ptmx") == nil)
        #expect(DescriptorParser.terminalNumber(link: "/dev/pts/99999999999") == nil)
    }

    private func info(_ text: String, _ kind: DescriptorObject.Kind) -> DescriptorObject {
        var object = DescriptorObject()
        object.kind = kind
        DescriptorParser.parseInfo(bytes(text), into: &object)
        return object
    }

    @Test func fdinfo() {
        let file = info("pos:\t123\nflags:\t0100002\nmnt_id:\t29\nino:\t4\n", .file)
        #expect(file.offset == 123 && file.flags == 0o100002 && file.detail == .none)
        #expect(info("pos:\t0\neventfd-count:               2a\neventfd-id: 5\n", .eventCounter).detail == .counter(42))
        #expect(info("sigmask:\t0000000000000200\n", .signals).detail == .signals(0x200))
        #expect(info("Pid:\t-1\nNSpid:\t-1\n", .processHandle).detail == .process(-1))
        #expect(info("tty-index:\t4\n", .terminalMaster).detail == .terminal(4))
        let timer = "clockid: 1\nticks: 0\nsettime flags: 01\nit_value: (999, 500000000)\nit_interval: (7, 0)\n"
        #expect(info(timer, .timer).detail == .timer(clock: 1, remaining: 999_500_000_000, interval: 7_000_000_000))
        let endless = "clockid: 1\nit_value: (18446744073709551615, 1)\nit_interval: (99999999999999999999999, 0)\n"
        #expect(info(endless, .timer).detail == .timer(clock: 1, remaining: .max, interval: 0))
        let epoll = "pos:\t0\ntfd:        5 events:       19 data:                5  pos:0 ino:61af sdev:7\ntfd: x\n"
        #expect(info(epoll, .epoll).detail == .members([EpollMember(descriptor: 5, events: 0x19)]))
        #expect(info("pos:\t0\n", .epoll).detail == .members([]))
        let watches = "inotify wd:2 ino:7ef82a sdev:800001 mask:800afff ignored_mask:0\ninotify wd:1 ino:192627 sdev:800001 mask:8\n"
        #expect(info(watches, .inotify).detail == .watches(2))
    }

    @Test func unixSockets() {
        let text = """
            Num       RefCount Protocol Flags    Type St Inode Path
            00000000550f5a1d: 00000003 00000000 00000000 0001 03 483133
            000000007828ab79: 00000002 00000000 00010000 0001 01 20417 /run/a b.sock
            0000000011111111: 00000002 00000000 00000000 0005 01 20418 @abstract
            broken
            """
        let sockets = SocketParser.parseUnix(bytes(text), limit: 100)
        #expect(sockets.map(\.inode) == [483133, 20417, 20418])
        #expect(sockets.map(\.state) == [.connected, .listening, .unconnected])
        #expect(sockets.map(\.type) == [.stream, .stream, .sequentialPacket])
        #expect(sockets.map(\.path) == ["", "/run/a b.sock", "@abstract"])
        #expect(SocketParser.parseUnix(bytes(text), limit: 2).count == 2)
    }

    @Test func internetSockets() throws {
        let text = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 0100007F:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000   105        0 627 1 0000000063a38cdb 100 0 0 10 0
               1: 020200C0:8A88 507100CB:0050 06 00000000:00000000 03:0000095D 00000000     0        0 0 3 00000000d9d940c9
               2: 0100007F:AAAA 0100007F:18EB 01 0000000A:00000014 02:000AFE2C 00000000  1000        0 628 2 0000000063a38cdb 20 4 31 10 -1
               3: 01000:0001
            """
        let sockets = SocketParser.parseInternet(bytes(text), .tcp, limit: 100)
        #expect(sockets.count == 3)
        #expect(sockets[0].localAddress == "127.0.0.1" && sockets[0].localPort == 6379 && sockets[0].state == .listening)
        #expect(sockets[0].user == 105 && sockets[0].inode == 627)
        #expect(sockets[1].remoteAddress == "203.0.113.80" && sockets[1].state == .timeWait && sockets[1].inode == 0)
        #expect(sockets[2].sendQueue == 10 && sockets[2].receiveQueue == 20 && sockets[2].state == .established)
        let six = """
              sl  local_address   remote_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 00000000000000000000000001000000:0050 B80D0120000000000000000001000000:1000 01 0:0 00:0 0 0 0 9 1
            """
        let sixes = SocketParser.parseInternet(bytes(six), .tcp6, limit: 100)
        #expect(sixes.first?.localAddress == "::1" && sixes.first?.remoteAddress == "2001:db8::1")
    }

    @Test func addresses() {
        #expect(AddressFormat.text([192, 0, 2, 255]) == "192.0.2.255")
        #expect(AddressFormat.text([UInt8](repeating: 0, count: 16)) == "::")
        #expect(AddressFormat.text([UInt8](repeating: 0xAB, count: 16)) == "abab:abab:abab:abab:abab:abab:abab:abab")
        #expect(AddressFormat.text([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 10, 0, 0, 1]) == "::ffff:10.0.0.1")
        #expect(AddressFormat.text([0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2]) == "fe80::1:0:0:2")
        #expect(AddressFormat.text([0x20, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]) == "2001:0:1::")
        #expect(AddressFormat.text([1, 2]) == "?")
    }

    @Test func mappings() {
        let text = """
            55d0c0000000-55d0c0001000 r--p 00000000 fe:00 42                         /usr/bin/x
            55d0c0001000-55d0c0003000 r-xp 00001000 fe:00 42                         /usr/bin/x
            7f0000000000-7f0000010000 rw-p 00000000 00:00 0
            7f0000020000-7f0000021000 rw-s 00000000 00:01 77                         /dev/shm/a b (deleted)
            7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
            junk
            ffff-1000 r--p 00000000 00:00 0
            """
        let found = MappingParser.parse(bytes(text), process: 5, limit: 100)
        #expect(found.map(\.path) == ["/usr/bin/x", "", "/dev/shm/a b", "[stack]"])
        #expect(found.map(\.bytes) == [0x3000, 0x10000, 0x1000, 0x21000])
        #expect(found[0].regions == 2 && found[0].isExecutable && !found[0].isWritable && !found[0].isShared)
        #expect(found[2].isShared && found[2].isDeleted && found[2].isWritable)
        #expect(MappingParser.parse(bytes(text), process: 5, limit: 2).count == 2)
    }

    @Test func interprocessTables() {
        let shm = """
                   key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime
                  4660          3  1640                 12288   100   101      2  1000  1001  1000  1001 0 0 0 4096 0
            """
        let segment = InterprocessParser.parseSysV(bytes(shm), .sharedMemory, limit: 10)
        #expect(segment.count == 1 && segment[0].key == 4660 && segment[0].identifier == 3 && segment[0].mode == 0o640)
        #expect(segment[0].bytes == 12288 && segment[0].creator == 100 && segment[0].lastProcess == 101 && segment[0].count == 2)
        #expect(segment[0].user == 1000 && segment[0].userGroup == 1001)
        let sem = "key semid perms nsems uid gid cuid cgid otime ctime\n -5 1 600 3 1 2 0 0 0 0\n"
        let set = InterprocessParser.parseSysV(bytes(sem), .semaphores, limit: 10)
        #expect(set.first?.key == -5 && set.first?.count == 3 && set.first?.user == 1 && set.first?.userGroup == 2)
        let msg = "key msqid perms cbytes qnum lspid lrpid uid gid\n 1911 0 600 5 1 10 0 0 0 0 0 0 0 0\n short 1\n"
        let queue = InterprocessParser.parseSysV(bytes(msg), .messageQueue, limit: 10)
        #expect(queue.count == 1 && queue[0].bytes == 5 && queue[0].count == 1 && queue[0].creator == 10)
        #expect(InterprocessParser.parseQueueBytes(bytes("QSIZE:129   NOTIFY:2 SIGNO:0 NOTIFY_PID:8260\n")) == 129)
        #expect(InterprocessParser.namedObject(sharedMemoryFile: "sem.x").name == "/x")
    }

    @Test func socketDiagnostics() {
        var dump = ByteWriter()
        func header(_ length: Int, _ type: UInt16) {
            dump.write(UInt32(length))
            dump.write(type)
            dump.write(UInt16(2))
            dump.write(UInt64(1))
        }
        // One connected socket with name, peer and queues, then the end.
        header(16 + 16 + 8 + 8 + 12, 20)
        dump.append(raw: [1, 1, 1, 0])
        dump.write(UInt32(100))
        dump.write(UInt64(0))
        dump.append(raw: [7, 0, 0, 0, 0, 65, 66, 0])
        dump.append(raw: [8, 0, 2, 0, 101, 0, 0, 0])
        dump.append(raw: [12, 0, 4, 0, 5, 0, 0, 0, 6, 0, 0, 0])
        header(20, 3)
        dump.write(UInt32(0))
        var sockets: [UnixSocketObject] = []
        #expect(SocketDiagnostics.parse(dump.bytes, into: &sockets, limit: 10) == .done)
        #expect(sockets.count == 1)
        #expect(sockets[0].inode == 100 && sockets[0].peerInode == 101 && sockets[0].path == "@AB" && sockets[0].state == .connected)
        #expect(sockets[0].receiveQueue == 5 && sockets[0].sendQueue == 6)
        var bad = dump.bytes
        bad[0] = 255
        #expect(SocketDiagnostics.parse(bad, into: &sockets, limit: 10) == .failed)
        #expect(SocketDiagnostics.unixRequest.count == 40)
    }
}
