import Testing

@testable import Images

@Suite struct KernelStoreTests {
    @Test func buildsOnceAndOpens() throws {
        let fixture = try Fixture()
        let store = try fixture.kernels()
        #expect { try store.current() } throws: { if case ImageError.noKernel = $0 { true } else { false } }
        let kernel = try store.ensure(progress: silent)
        #expect(kernel.manifest.version == "6.1.0-1")
        #expect(kernel.manifest.release == "test")
        #expect(kernel.manifest.modules == ["a.ko", "aurora.ko"])
        #expect(kernel.manifest.vmlinuxSize == 1 << 20)
        #expect(try Files.head(kernel.vmlinuxPath, count: 4) == [0x7f, 0x45, 0x4c, 0x46])
        #expect(try fixture.names("kernel") == ["6.1.0-1", "current"])
        #expect(try store.ensure(progress: { _ in Issue.record("built again") }).manifest == kernel.manifest)
    }

    @Test func aNewRecipeMakesANewKernel() throws {
        let fixture = try Fixture()
        let old = try fixture.kernels().ensure(progress: silent)
        let new = try fixture.kernels(version: "6.1.0-2").ensure(progress: silent)
        #expect(old.manifest.inputDigest != new.manifest.inputDigest)
        #expect(try fixture.kernels(version: "6.1.0-2").current().manifest.version == "6.1.0-2")
    }

    @Test func oldKernelsAreRemoved() throws {
        let fixture = try Fixture()
        let store = try fixture.kernels()
        #expect(try store.prune(dryRun: false).isEmpty)
        _ = try store.ensure(progress: silent)
        _ = try fixture.kernels(version: "6.1.0-2").ensure(progress: silent)
        try fixture.write("half", to: "kernel/.building-kernel/result/vmlinux")
        let told = try store.prune(dryRun: true)
        #expect(told.map { "\($0.kind) \($0.name)" } == ["unfinished build kernel", "kernel 6.1.0-1"])
        #expect(told.allSatisfy { $0.bytes > 0 })
        #expect(try fixture.names("kernel") == [".building-kernel", "6.1.0-1", "6.1.0-2", "current"])
        // While somebody builds nothing goes.
        do {
            let building = try #require(try BuildLock.acquire("\(fixture.path)/kernel/.lock-kernel", attempts: 25, onWait: { false }))
            #expect(try store.prune(dryRun: false).isEmpty)
            withExtendedLifetime(building) {}
        }
        #expect(try store.prune(dryRun: false) == told)
        #expect(try fixture.names("kernel") == ["6.1.0-2", "current"])
        #expect(try store.current().manifest.version == "6.1.0-2")
        #expect(try store.prune(dryRun: false).isEmpty)
    }

    /// Without a current kernel nobody can tell which one is old.
    @Test func kernelsStayWhenNoneIsCurrent() throws {
        let fixture = try Fixture()
        let store = try fixture.kernels()
        _ = try store.ensure(progress: silent)
        try Files.removeTree("\(fixture.path)/kernel/current")
        #expect(try store.prune(dryRun: false).isEmpty)
        #expect(try fixture.names("kernel") == ["6.1.0-1"])
    }

    @Test func aHostThatCannotAskKeepsItsKernel() throws {
        let fixture = try Fixture()
        let kernel = try fixture.kernels().ensure(progress: silent)
        #expect(try fixture.kernels().ensure(.newest, progress: silent).manifest == kernel.manifest)
    }

    @Test func damagedKernelsAreFoundAndRebuilt() throws {
        let fixture = try Fixture()
        let store = try fixture.kernels()
        _ = try store.ensure(progress: silent)
        for damage in ["vmlinux", "manifest.json", "modules/a.ko"] {
            try Files.removeTree("\(fixture.path)/kernel/6.1.0-1/\(damage)")
            #expect("\(damage)") { try store.current() } throws: { "\($0)".contains("aurora image prepare") }
            #expect(throws: Never.self) { try store.ensure(progress: silent) }
        }
        try fixture.write("short", to: "kernel/6.1.0-1/vmlinux")
        #expect { try store.current() } throws: { "\($0)".contains("vmlinux has 5 bytes") }
    }

    /// Damage inside the boot image is a typed error, and leaves neither a kernel nor a directory behind.
    @Test(arguments: 0..<6) func damagedBootImages(kind: Int) throws {
        let fixture = try Fixture()
        let store = try fixture.kernels { image in
            switch kind {
            case 0: image.removeLast(image.count / 2)
            case 1: image = Array("#!/bin/sh\n".utf8) + [UInt8](repeating: 0, count: 4096)
            case 2: for index in 1060..<1100 { image[index] ^= 0xff }
            case 3: image.replaceSubrange(1040..<1046, with: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00])
            // It unpacks to more, then to less, than it says.
            case 4: image.replaceSubrange(sizeField(of: image), with: [0, 0, 0x18, 0])
            default: image.replaceSubrange(sizeField(of: image), with: [0, 0, 0x08, 0])
            }
        }
        #expect("kind \(kind)") { try store.ensure(progress: silent) } throws: {
            if case ImageError.bootImage = $0 { true } else { false }
        }
        #expect(try fixture.names("kernel").isEmpty)
    }

    private func sizeField(of image: [UInt8]) -> Range<Int> {
        let end = image.count - 100
        return end - 4..<end
    }
}
