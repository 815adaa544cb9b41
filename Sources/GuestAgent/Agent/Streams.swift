import CAgent

/// The standard streams of a program about to start: the child's ends and the agent's ends.
struct Streams: ~Copyable {
    private static let terminalGroup: UInt32 = 5
    /// Roomier than the kernel's 64 KiB: on one processor, a program then fills whole frames before the agent runs.
    private static let outputPipeBytes: Int32 = 262_144

    private let childInput: Descriptor
    private let childOutput: Descriptor
    private let childError: Descriptor
    /// The agent's ends, taken by the session.
    private var input: ChildStream?
    private var outputs: [ChildStream]

    private init(_ childInput: Int32, _ childOutput: Int32, _ childError: Int32, input: ChildStream?, outputs: [ChildStream]) {
        self.childInput = Descriptor(childInput)
        self.childOutput = Descriptor(childOutput)
        self.childError = Descriptor(childError)
        self.input = input
        self.outputs = outputs
    }

    /// Makes pipes or a terminal as the request asks.
    ///
    /// - Throws: `Failure` when the guest has no room for descriptors or terminals.
    static func make(_ request: StartRequest, owner: Identity) throws(Failure) -> Streams {
        if let size = request.terminal { return try terminal(size, owner: owner) }
        return try pipes(wantsInput: request.wantsInput, owner: owner)
    }

    /// Makes one pipe for both standard output and standard error, so that what is written to them keeps its order.
    ///
    /// `reading` becomes the agent's end, which is the caller's.
    ///
    /// - Throws: `Failure` when the guest has no room for descriptors.
    static func joined(_ reading: inout Int32, owner: Identity = .root) throws(Failure) -> Streams {
        let pipe = try Pipe(owner: owner)
        pipe.enlarge(outputPipeBytes)
        var out = Descriptor(pipe.releaseWriting())
        var err = Descriptor(try checked(sys_raise_descriptor(out.number, 3), "duplicate"))
        let null = try checked(sys_open("/dev/null", O_RDONLY, 0), "/dev/null")
        reading = pipe.releaseReading()
        return Streams(null, out.release(), err.release(), input: nil, outputs: [])
    }

    private static func pipes(wantsInput: Bool, owner: Identity) throws(Failure) -> Streams {
        let out = try Pipe(owner: owner)
        out.enlarge(outputPipeBytes)
        let err = try Pipe(owner: owner)
        let standard = [ChildStream(out.releaseReading(), .stdout), ChildStream(err.releaseReading(), .stderr)]
        guard wantsInput else {
            let null = try checked(sys_open("/dev/null", O_RDONLY, 0), "/dev/null")
            return Streams(null, out.releaseWriting(), err.releaseWriting(), input: nil, outputs: standard)
        }
        let input = try Pipe(owner: owner)
        let stream = ChildStream(input.releaseWriting(), nil)
        _ = sys_set_nonblocking(stream.descriptor)
        return Streams(input.releaseReading(blocking: true), out.releaseWriting(), err.releaseWriting(), input: stream, outputs: standard)
    }

    /// In the child: puts the streams at descriptors 0, 1 and 2.
    borrowing func installInChild() {
        _ = sys_dup2(childInput.number, 0)
        _ = sys_dup2(childOutput.number, 1)
        _ = sys_dup2(childError.number, 2)
    }

    /// In the agent: the session of the started child, which owns the agent's ends.
    ///
    /// The child's ends close with this value.
    mutating func session(_ child: Int32, _ request: StartRequest, _ connection: Connection, _ number: UInt32) -> Session {
        Session(child, request, input: input, outputs: outputs, connection, number)
    }

    private static func terminal(_ size: WindowSize, owner: Identity) throws(Failure) -> Streams {
        let master = try checked(sys_open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK, 0), "/dev/ptmx")
        let stream = ChildStream(master, .stdout)
        _ = sys_unlock_terminal(master)
        var slave = Descriptor(try checked(sys_open_peer(master), "terminal"))
        _ = sys_set_window(slave.number, size.rows, size.columns)
        _ = sys_fchown(slave.number, owner.user, terminalGroup)
        var second = Descriptor(try checked(sys_raise_descriptor(slave.number, 3), "duplicate"))
        let third = try checked(sys_raise_descriptor(slave.number, 3), "duplicate")
        return Streams(slave.release(), second.release(), third, input: stream, outputs: [stream])
    }

    fileprivate static func checked(_ result: Int, _ what: Text) throws(Failure) -> Int32 {
        guard result >= 0 else { throw Failure(.system, errno: Int32(truncatingIfNeeded: -result), what) }
        return Int32(truncatingIfNeeded: result)
    }
}

/// A pipe whose ends are given away one by one; what is not given away is closed.
private final class Pipe {
    private var reading: Descriptor
    private var writing: Descriptor

    /// Makes a pipe that belongs to the program's user, who may then open it anew as `/dev/stdout`.
    init(owner: Identity) throws(Failure) {
        var ends: (Int32, Int32) = (-1, -1)
        let result = withUnsafeMutableBytes(of: &ends) { sys_pipe($0.baseAddress.unsafelyUnwrapped.assumingMemoryBound(to: Int32.self)) }
        reading = Descriptor(ends.0)
        writing = Descriptor(ends.1)
        _ = try Streams.checked(result, "pipe")
        // Both ends are one file.
        if owner != .root { _ = sys_fchown(reading.number, owner.user, owner.group) }
    }

    /// Asks for a larger buffer; the kernel may refuse, and the pipe works all the same.
    func enlarge(_ bytes: Int32) { _ = sys_set_pipe_size(writing.number, bytes) }

    /// Gives the reading end away, non-blocking for the agent, blocking for a program.
    func releaseReading(blocking: Bool = false) -> Int32 {
        if !blocking { _ = sys_set_nonblocking(reading.number) }
        return reading.release()
    }

    /// Gives the writing end away.
    func releaseWriting() -> Int32 { writing.release() }
}
