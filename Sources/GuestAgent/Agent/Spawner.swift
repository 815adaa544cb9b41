import CAgent

/// Starts programs.
enum Spawner {
    private static let defaultPath: Text = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    private static let accountFileBytesMax = 1_048_576

    /// Starts a program and makes the connection its session's.
    static func start(_ request: StartRequest, _ number: UInt32, _ connection: Connection, _ agent: Agent) {
        guard agent.sessions.count < AgentLimits.sessionsMax, agent.shutdown == nil else {
            return connection.fail(number, Failure(.limit, agent.shutdown == nil ? "sessions" : "the guest is shutting down"), agent)
        }
        do throws(Failure) {
            let identity = try identity(request.user)
            var streams = try Streams.make(request, owner: identity)
            let child = try spawn(request, identity, controlGroup: Text(), streams)
            let session = streams.session(child, request, connection, number)
            connection.session = session
            session.begin(agent)
        } catch {
            connection.fail(number, error, agent)
        }
    }

    /// Who a user of the guest is; root for an empty text.
    ///
    /// - Throws: `.unknownUser`.
    static func identity(_ user: Text) throws(Failure) -> Identity {
        guard !user.isEmpty else { return .root }
        let passwd = Files.read("/etc/passwd", bytesMax: accountFileBytesMax) ?? []
        let group = Files.read("/etc/group", bytesMax: accountFileBytesMax) ?? []
        guard let identity = Accounts.resolve(user, passwd: passwd, group: group) else { throw Failure(.unknownUser, user) }
        return identity
    }

    /// The environment with defaults for what the client did not set.
    private static func environment(_ request: StartRequest, _ identity: Identity) -> [Text] {
        var environment = request.environment
        if !environment.contains(where: { $0.hasPrefix("PATH=") }) { environment.append("PATH=" + defaultPath) }
        if !environment.contains(where: { $0.hasPrefix("HOME=") }) { environment.append("HOME=" + identity.home) }
        if request.terminal != nil, !environment.contains(where: { $0.hasPrefix("TERM=") }) { environment.append("TERM=xterm-256color") }
        return environment
    }

    /// The files to try, in order.
    private static func candidates(_ program: Text, _ environment: [Text]) -> [Text] {
        if program.bytes.contains(UInt8(ascii: "/")) { return [program] }
        let path = environment.last { $0.hasPrefix("PATH=") }?.dropFirst(5) ?? defaultPath
        var list: [Text] = []
        for folder in path.bytes.split(separator: UInt8(ascii: ":")) { list.append(Text(folder) + "/" + program) }
        return list
    }

    /// Starts a program with streams of the caller's own, in a control group unless its path is empty; returns its process number.
    ///
    /// - Throws: `Failure` that says why it cannot be started.
    static func spawn(
        _ request: StartRequest, _ identity: Identity, controlGroup: Text, _ streams: borrowing Streams
    ) throws(Failure) -> Int32 {
        let environment = environment(request, identity)
        let plan = ChildPlan(
            candidates: CStringArray(candidates(request.arguments[0], environment)), arguments: CStringArray(request.arguments),
            environment: CStringArray(environment), directory: request.directory.isEmpty ? "/" : request.directory, identity: identity,
            terminal: request.terminal != nil, controlGroup: controlGroup)
        var ends: (Int32, Int32) = (-1, -1)
        let piped = withUnsafeMutableBytes(of: &ends) { sys_pipe($0.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: Int32.self)) }
        guard piped >= 0 else { throw Failure(.system, errno: Int32(truncatingIfNeeded: -piped), "pipe") }
        let reading = Descriptor(ends.0)
        let writing = Descriptor(ends.1)

        let child = sys_fork()
        if child == 0 { plan.run(streams, report: writing.number) }
        guard child > 0 else { throw Failure(.system, errno: Int32(truncatingIfNeeded: -child), "fork") }
        _ = consume writing
        // The pipe closes by itself when the program starts; anything read from it is a failure.
        var failure = ChildFailure(stage: 0, errno: 0)
        let got = withUnsafeMutableBytes(of: &failure) { sys_read(reading.number, $0.baseAddress, $0.count) }
        guard got <= 0 else { throw failure.explained(request) }
        return Int32(truncatingIfNeeded: child)
    }
}

/// What a child writes when it cannot become the program.
struct ChildFailure {
    enum Stage: Int32 {
        case session = 1, directory, identity, execute, controlGroup
    }
    var stage: Int32
    var errno: Int32

    func explained(_ request: StartRequest) -> Failure {
        switch Stage(rawValue: stage) {
        case .directory: Failure(.badDirectory, errno: errno, request.directory)
        case .identity: Failure(.system, errno: errno, "change to user " + request.user)
        case .execute:
            Failure(errno == ENOENT || errno == ENOTDIR ? .commandNotFound : .notExecutable, errno: errno, request.arguments[0])
        case .controlGroup: Failure(.system, errno: errno, "enter a control group")
        default: Failure(.system, errno: errno, "session")
        }
    }
}

/// Everything a child needs, prepared before the fork.
struct ChildPlan {
    let candidates: CStringArray
    let arguments: CStringArray
    let environment: CStringArray
    let directory: Text
    let identity: Identity
    let terminal: Bool
    /// The directory of a control group to enter, or empty.
    let controlGroup: Text

    /// In the child: becomes the program, or reports why not.
    func run(_ streams: borrowing Streams, report: Int32) -> Never {
        if sys_setsid() < 0 { fail(.session, 0, report) }
        streams.installInChild()
        if terminal {
            let taken = sys_take_terminal(0)
            if taken < 0 { fail(.session, taken, report) }
        }
        _ = Files.write("/proc/self/oom_score_adj", "0", create: false)
        _ = sys_limit_descriptors(Agent.programDescriptorsMax, Agent.descriptorsMax)
        if !controlGroup.isEmpty {
            let entered = Files.write(controlGroup + "/cgroup.procs", "0", create: false)
            if entered < 0 { fail(.controlGroup, entered, report) }
        }
        becomeUser(report)
        // After the change of user, so that its permissions decide.
        let entered = withCString(directory) { sys_chdir($0) }
        if entered < 0 { fail(.directory, entered, report) }
        sys_default_signals()
        fail(.execute, execute(), report)
    }

    private func becomeUser(_ report: Int32) {
        guard identity != .root else { return }
        let groups = identity.groups
        var result = groups.withUnsafeBufferPointer { sys_setgroups($0.count, $0.baseAddress) }
        if result >= 0 { result = sys_setgid(identity.group) }
        if result >= 0 { result = sys_setuid(identity.user) }
        if result < 0 { fail(.identity, result, report) }
    }

    /// Tries the candidates as execvp(3) does; returns the error that explains the failure best.
    private func execute() -> Int {
        var denied = false
        for index in 0..<candidates.count {
            guard let path = candidates.pointers[index] else { break }
            let result = sys_execve(path, arguments.pointers, environment.pointers)
            switch Int32(truncatingIfNeeded: -result) {
            case ENOENT, ENOTDIR: continue
            case EACCES: denied = true
            default: return result
            }
        }
        return -Int(denied ? EACCES : ENOENT)
    }

    private func fail(_ stage: ChildFailure.Stage, _ result: Int, _ report: Int32) -> Never {
        var failure = ChildFailure(stage: stage.rawValue, errno: Int32(truncatingIfNeeded: -result))
        withUnsafeBytes(of: &failure) { _ = sys_write(report, $0.baseAddress, $0.count) }
        sys_exit(127)
    }
}

/// A null-terminated array of C strings, as execve(2) takes it.
final class CStringArray {
    let count: Int
    let pointers: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>

    init(_ texts: [Text]) {
        count = texts.count
        pointers = .allocate(capacity: texts.count + 1)
        for index in 0..<texts.count {
            let bytes = texts[index].bytes
            let string = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count + 1)
            for offset in 0..<bytes.count { string[offset] = CChar(bitPattern: bytes[offset]) }
            string[bytes.count] = 0
            pointers[index] = string
        }
        pointers[texts.count] = nil
    }

    deinit {
        for index in 0..<count { pointers[index]?.deallocate() }
        pointers.deallocate()
    }
}
