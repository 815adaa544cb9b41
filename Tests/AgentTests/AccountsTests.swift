import AgentProtocol
import Testing

@testable import GuestAgentCore

@Suite struct AccountsTests {
    private let passwd = [UInt8](
        """
        root:x:0:0:root:/root:/bin/bash
        daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
        broken line
        half:x:9
        redis:x:105:110::/var/lib/redis:/usr/sbin/nologin
        huge:x:99999999999:1::/:/bin/sh
        1234:x:77:78::/odd:/bin/sh

        """.utf8)
    private let group = [UInt8](
        """
        root:x:0:
        daemon:x:1:
        disk:x:6:redis,daemon
        redis:x:110:
        tty:x:5:daemon,redis
        bad
        """.utf8)

    private func resolve(_ text: Text) -> Identity? { Accounts.resolve(text, passwd: passwd, group: group) }

    @Test func namesAndNumbersAreFound() {
        #expect(resolve("") == .root)
        #expect(resolve("redis") == Identity(user: 105, group: 110, groups: [6, 5], home: "/var/lib/redis"))
        #expect(resolve("105") == Identity(user: 105, group: 110, groups: [6, 5], home: "/var/lib/redis"))
        #expect(resolve("redis:tty") == Identity(user: 105, group: 5, groups: [], home: "/var/lib/redis"))
        #expect(resolve("daemon:42") == Identity(user: 1, group: 42, groups: [], home: "/usr/sbin"))
        #expect(resolve("4000") == Identity(user: 4000, group: 0, groups: [], home: "/"))
        // A name that looks like a number is still a name first.
        #expect(resolve("1234")?.user == 77)
    }

    @Test func theUnknownIsRefused() {
        for bad in ["nobody", "redis:nope", "redis:", ":tty", ":", "-1", "4294967295", "99999999999999999999", "huge", "half"] as [Text] {
            #expect(resolve(bad) == nil, "\(bad)")
        }
        #expect(Accounts.resolve("0", passwd: [], group: []) == Identity(user: 0, group: 0, groups: [], home: "/"))
    }
}
