import CAgent

/// Requests that change the guest as a whole.
///
/// Each returns nil or why it failed.
enum SystemServices {
    /// What a client is greeted with.
    static func welcome(_ agent: Agent) -> Welcome {
        var buffer = [CChar](repeating: 0, count: 65)
        let length = buffer.withUnsafeMutableBufferPointer { sys_kernel_release($0.baseAddress, $0.count) }
        let release = buffer.prefix(max(0, min(length, 64)))
        return Welcome(
            version: agentProtocolVersion, uptimeNanoseconds: UInt64(max(0, sys_clock(CLOCK_BOOTTIME))),
            kernelRelease: Text(release.map { UInt8(bitPattern: $0) }), bootFailures: agent.bootFailures)
    }

    /// Sets name, network, resolver, hosts and clock.
    static func configure(_ request: ConfigureRequest, _ agent: Agent) -> Failure? {
        let etc = agent.options.etc
        if !request.hostname.isEmpty {
            let result = withCString(request.hostname) { sys_sethostname($0, request.hostname.bytes.count) }
            if result < 0 { return failure(result, "set the host name") }
        }
        if let network = request.network, let failed = setUp(network) { return failed }
        if !request.resolvers.isEmpty {
            var contents = Text()
            for resolver in request.resolvers { contents = contents + "nameserver " + resolver + "\n" }
            let result = Files.write(etc + "/resolv.conf", contents)
            if result < 0 { return failure(result, "write " + etc + "/resolv.conf") }
        }
        if !request.hostname.isEmpty || !request.hosts.isEmpty {
            var contents: Text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
            if !request.hostname.isEmpty { contents = contents + "127.0.1.1\t" + request.hostname + "\n" }
            for line in request.hosts { contents = contents + line + "\n" }
            let result = Files.write(etc + "/hosts", contents)
            if result < 0 { return failure(result, "write " + etc + "/hosts") }
        }
        return request.wallClockNanoseconds == 0 ? nil : setClock(request.wallClockNanoseconds)
    }

    private static func setUp(_ network: ConfigureRequest.Network) -> Failure? {
        guard let socket = Descriptor(result: sys_inet_socket()) else { return failure(-Int(EMFILE), "open a socket") }
        let ones: UInt32 = network.prefixLength == 0 ? 0 : UInt32.max << UInt32(32 - network.prefixLength)
        var result = withCString(network.interface) { sys_interface_address(socket.number, $0, network.address, ones.bigEndian) }
        if result >= 0 { result = withCString(network.interface) { sys_interface_up(socket.number, $0) } }
        if result < 0 { return failure(result, "set up interface " + network.interface) }
        guard network.gateway != 0 else { return nil }
        result = sys_default_route(socket.number, network.gateway)
        return result < 0 && result != -Int(EEXIST) ? failure(result, "set the default route") : nil
    }

    /// Brings the loopback interface up; the kernel gives it its address by itself.
    static func raiseLoopback() -> Int {
        guard let socket = Descriptor(result: sys_inet_socket()) else { return -Int(EMFILE) }
        return sys_interface_up(socket.number, "lo")
    }

    /// Mounts a file system.
    static func mount(_ request: MountRequest) -> Failure? {
        Files.makeDirectories(request.path)
        let isBound = request.fileSystem.isEmpty
        let access = UInt(request.readOnly ? MS_RDONLY : 0)
        let result = withCString(request.device) { device in
            withCString(request.path) { path in
                withCString(request.fileSystem) { type in
                    let result = sys_mount(device, path, type, isBound ? UInt(MS_BIND) : access, nil)
                    // A bind mount takes no other flag but when it is changed.
                    guard isBound, request.readOnly, result >= 0 else { return result }
                    return sys_mount(device, path, type, UInt(MS_BIND | MS_REMOUNT) | access, nil)
                }
            }
        }
        return result < 0 ? failure(result, "mount " + request.device + " on " + request.path) : nil
    }

    /// How far the wall clock may be from the one it is set to before it is set: the request has been on its way, and a clock that
    /// `aurora.ko` has set right must not jump again (timers that are cancelled by that would be, twice).
    private static let clockToleranceNanoseconds: Int64 = 20_000_000

    /// Sets the wall clock, unless it is right.
    static func setClock(_ nanoseconds: UInt64) -> Failure? {
        let wrong = sys_clock(CLOCK_REALTIME).subtractingReportingOverflow(Int64(clamping: nanoseconds))
        if !wrong.overflow, wrong.partialValue.magnitude <= clockToleranceNanoseconds.magnitude { return nil }
        let result = sys_set_wall_clock(Int64(clamping: nanoseconds))
        return result < 0 ? failure(result, "set the clock") : nil
    }

    /// Adds entropy and reseeds the generator, so that two clones of one checkpoint do not share random numbers.
    static func reseed(_ request: ReseedRequest) -> Failure? {
        guard let random = Descriptor(result: sys_open("/dev/urandom", O_RDWR, 0)) else {
            return failure(-Int(ENOENT), "open /dev/urandom")
        }
        let entropy = request.entropy.bytes
        var result = entropy.withUnsafeBytes { sys_add_entropy(random.number, $0.baseAddress, UInt32(truncatingIfNeeded: $0.count)) }
        if result >= 0 { result = sys_reseed(random.number) }
        return result < 0 ? failure(result, "reseed the random number generator") : nil
    }

    private static func failure(_ result: Int, _ what: Text) -> Failure {
        Failure(.system, errno: Int32(truncatingIfNeeded: -result), what)
    }
}
