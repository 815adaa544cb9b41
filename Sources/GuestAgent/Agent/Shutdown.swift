import CAgent

/// The end of the guest: SIGTERM, a grace period, SIGKILL, clean disks, power off.
struct Shutdown {
    private static let killNanoseconds: Int64 = 2_000_000_000
    private static let pollNanoseconds: Int64 = 5_000_000

    private let action: ShutdownRequest.Action
    private var killAt: Int64
    private var giveUpAt: Int64
    private var killed = false
    private(set) var nextStep: Int64

    /// Asks all processes to end.
    init(_ request: ShutdownRequest, _ now: Int64) {
        action = request.action
        killAt = now + Int64(request.graceMilliseconds) * 1_000_000
        giveUpAt = killAt + Shutdown.killNanoseconds
        nextStep = now
        _ = sys_kill(-1, SIGTERM)
        // A stopped process cannot obey.
        _ = sys_kill(-1, SIGCONT)
    }

    /// Brings the end of a running shutdown forward.
    mutating func hasten(_ request: ShutdownRequest, _ now: Int64) {
        killAt = min(killAt, now + Int64(request.graceMilliseconds) * 1_000_000)
        giveUpAt = killAt + Shutdown.killNanoseconds
    }

    /// Does what is due.
    mutating func advance(_ now: Int64, _ agent: Agent) {
        agent.reap()
        let allGone = sys_kill(-1, 0) == -Int(ESRCH)
        if !allGone && !killed && now >= killAt {
            _ = sys_kill(-1, SIGKILL)
            killed = true
        }
        guard allGone || now >= giveUpAt else {
            nextStep = now + Shutdown.pollNanoseconds
            return
        }
        Shutdown.stopMachine(action, agent)
    }

    private static func stopMachine(_ action: ShutdownRequest.Action, _ agent: Agent) {
        guard agent.isGuest else { sys_exit(0) }
        sys_sync()
        // Detached mounts would keep a disk dirty; a read-only remount leaves every disk clean.
        for path in mountPoints().reversed() {
            _ = withCString(path) { sys_mount("none", $0, nil, UInt(MS_REMOUNT | MS_RDONLY), nil) }
        }
        agent.console.say(action == .powerOff ? "power off" : "reboot")
        let result = sys_reboot(action == .powerOff ? Int32(bitPattern: UInt32(0x4321_FEDC)) : Int32(0x0123_4567))
        agent.report("cannot stop the machine", result)
        agent.shutdown = nil
    }

    /// Where disks are mounted, in mount order.
    private static func mountPoints() -> [Text] {
        var file = TextScanner(Files.read("/proc/self/mounts", bytesMax: 65_536) ?? [])
        var points: [Text] = []
        while var line = file.nextLine() {
            guard line.word().hasPrefix("/dev/") else { continue }
            points.append(line.word())
        }
        return points
    }
}

extension Agent {
    /// Starts to end the guest, or hastens an end already under way.
    func beginShutdown(_ request: ShutdownRequest) {
        let now = sys_clock(CLOCK_MONOTONIC)
        if shutdown == nil { shutdown = Shutdown(request, now) } else { shutdown?.hasten(request, now) }
    }
}
