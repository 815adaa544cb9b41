import AgentProtocol
import Foundation
import Linux
import Synchronization
import Testing

@testable import Functions

/// The pool with hosts and machines that do not do what they should: nobody waits for them for ever.
@Suite(.timeLimit(.minutes(5))) struct PoolTests {
    /// The events of some requests, as a guest reads them.
    private static func payloads(_ descriptor: Int32, count: Int, bytes: Int) -> [[UInt8]] {
        var decoder = FrameDecoder()
        var found: [[UInt8]] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 20)
        while found.count < count || found.last?.count != bytes {
            let got = read(descriptor, &buffer, buffer.count)
            guard got > 0 else { return found }
            decoder.append(buffer[..<got])
            while let frame = try? decoder.next() {
                if frame.type == .functionInvoke { found.append([]) }
                if frame.type == .functionEvent, !found.isEmpty { found[found.count - 1] += frame.payload }
            }
        }
        return found
    }

    private func eventually(_ condition: () -> Bool) async throws {
        while !condition() { try await Task.sleep(for: .milliseconds(5)) }
    }

    /// A program that is no instance host: it is started, and says nothing.
    private func silentProgram() throws -> String {
        let path = FileManager.default.temporaryDirectory.appending(path: "aurora-silent-\(UUID().uuidString)").path
        try "#!/bin/sh\nexec sleep 1000\n".write(toFile: path, atomically: true, encoding: .utf8)
        try FileManager.default.setAttributes([.posixPermissions: 0o700], ofItemAtPath: path)
        return path
    }

    @Test func aHostThatHangsIsReplaced() async throws {
        let program = try silentProgram()
        defer { try? FileManager.default.removeItem(atPath: program) }
        var configuration = PoolConfiguration()
        (configuration.program, configuration.machineSeconds) = (program, 1)
        let loop = try EventLoop(name: "test")
        let pool = RuntimePool(base: "base", launchPath: "/nowhere", configuration, loop: loop)
        for _ in 0..<2 {
            do throws(InstanceError) {
                _ = try await pool.take(for: "launch", fresh: false)
                Issue.record("there is no machine")
            } catch {
                guard case .restore(let reason) = error else {
                    Issue.record("\(error)")
                    continue
                }
                #expect(reason.contains("not made within 1 s") || reason.contains("ended before it was ready"), "\(reason)")
            }
        }
        pool.end()
        loop.stop()
        #expect(pool.counts.alive == 0)
    }

    @Test func nobodyWaitsForAMachineThatDoesNotRead() async throws {
        let (link, far) = try MachineLink.pair("m1")
        let loop = try EventLoop(name: "test")
        let killed = Atomic<Int>(0)
        let machine = try PooledMachine(link, loop: loop, kill: { killed.wrappingAdd(1, ordering: .relaxed) }) { _, _ in }
        let answered = Atomic<Int>(0)
        // More than its socket holds; each is answered in the end.
        for _ in 0..<5_000 { machine.send(InstanceRequest(.status)) { _ in answered.wrappingAdd(1, ordering: .relaxed) } }
        try await eventually { answered.load(ordering: .relaxed) == 5_000 }
        #expect(!machine.isAlive && machine.reason == "it does not take requests")
        // It is killed, and when its host does not tell of its end either, waiting for that has an end as well.
        await machine.end()
        #expect(killed.load(ordering: .relaxed) == 1)
        loop.stop()
        withExtendedLifetime(far) {}
    }

    @Test func aRequestThatIsNotAnsweredEndsTheMachine() async throws {
        let (link, far) = try MachineLink.pair("m1")
        let loop = try EventLoop(name: "test")
        let machine = try PooledMachine(link, loop: loop) { _, _ in }
        // The first report is what `ready` waits for.
        let answer = await machine.request(InstanceRequest(.restore), seconds: 1)
        #expect(answer == nil && !machine.isAlive && machine.reason.contains("over 1 s"))
        machine.ended()
        loop.stop()
        withExtendedLifetime(far) {}
    }

    /// A request that takes too long: its instance is asked how much memory it had before it is ended, and ended when it says nothing, too.
    @Test(arguments: [true, false]) func memoryIsMeasuredWhenTheTimeIsOver(_ answers: Bool) async throws {
        let (link, far) = try MachineLink.pair("m1")
        let loop = try EventLoop(name: "test")
        let machine = try PooledMachine(link, loop: loop) { _, _ in }
        let function = DeployedFunction(name: "f", image: "base", memoryBytes: 128 << 20, timeoutSeconds: 3, revision: "r")
        var configuration = PoolConfiguration()
        // A crowded host is given its time to answer.
        configuration.measureMilliseconds = answers ? 60_000 : 10
        let instance = try PooledInstance(function, machine, .pooled, nil, configuration, loop: loop)
        let guest = far[1]
        try Socket.setNonBlocking(guest.rawValue, false)
        // A thread of its own: tasks of all tests share a few.
        let reader = Thread {
            var decoder = FrameDecoder()
            var buffer = [UInt8](repeating: 0, count: 4096)
            while case let got = read(guest.rawValue, &buffer, buffer.count), got > 0 {
                decoder.append(buffer[..<got])
                while let frame = try? decoder.next() {
                    guard frame.type == .functionMeasure, answers else { continue }
                    var bytes: [UInt8] = []
                    Frame.appendMessage(.functionMemory, request: 0, payload: FunctionMemory(peakBytes: 77).encoded, to: &bytes)
                    _ = bytes.withUnsafeBytes { send(guest.rawValue, $0.baseAddress, $0.count, 0) }
                }
            }
        }
        reader.start()
        let late = Invocation(
            requestIdentifier: "r-1", payload: [49], deadline: WallClock.milliseconds + 20, functionARN: "arn")
        do throws(InstanceError) {
            _ = try await instance.invoke(late)
            Issue.record("nobody answered")
        } catch {
            if case .timedOut = error {} else { Issue.record("\(error)") }
        }
        #expect(instance.memoryPeakBytes == (answers ? 77 : nil))
        #expect(!instance.isUsable)
        machine.ended()
        shutdown(guest.rawValue, Int32(SHUT_RDWR))
        while !reader.isFinished { try await Task.sleep(for: .milliseconds(5)) }
        loop.stop()
    }

    /// A runtime that answers before it has read its event: the next one follows what is left of the first, whole.
    @Test func eventsFollowEachOther() async throws {
        let (link, far) = try MachineLink.pair("m1")
        let loop = try EventLoop(name: "test")
        let machine = try PooledMachine(link, loop: loop) { _, _ in }
        let function = DeployedFunction(name: "f", image: "base", memoryBytes: 128 << 20, timeoutSeconds: 3, revision: "r")
        let instance = try PooledInstance(function, machine, .pooled, nil, PoolConfiguration(), loop: loop)
        let guest = far[1]
        try Socket.setNonBlocking(guest.rawValue, false)
        func invocation(_ number: Int) -> Invocation {
            Invocation(
                requestIdentifier: "r-\(number)", payload: [UInt8](repeating: 48 + UInt8(number), count: 3 << 20),
                deadline: WallClock.milliseconds + 60_000, functionARN: "arn")
        }
        func answer(_ number: Int) throws {
            var bytes: [UInt8] = []
            let answer = FunctionAnswer(.response, requestIdentifier: Text("r-\(number)"))
            Frame.appendMessage(.functionAnswer, request: 0, payload: answer.encoded, to: &bytes)
            Frame.appendMessage(.functionEnd, request: 0, payload: FunctionEnd(.complete).encoded, to: &bytes)
            #expect(bytes.withUnsafeBytes { send(guest.rawValue, $0.baseAddress, $0.count, 0) } == bytes.count)
        }
        async let first = instance.invoke(invocation(1))
        try await eventually { instance.isServing }
        // Nothing of the event was read yet.
        try answer(1)
        _ = try await first
        async let second = instance.invoke(invocation(2))
        try await eventually { instance.isServing }
        let reader = Task.detached { PoolTests.payloads(guest.rawValue, count: 2, bytes: 3 << 20) }
        #expect(await reader.value == [[UInt8](repeating: 49, count: 3 << 20), [UInt8](repeating: 50, count: 3 << 20)])
        try answer(2)
        _ = try await second
        machine.ended()
        loop.stop()
    }
}
