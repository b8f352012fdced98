//! What it would cost to clean a page, found out before it is cleaned.
//!
//! A page can make the cleaner's tree far larger than itself: open formatting is begun anew in every paragraph with all its
//! attributes, and every tag is held against all that is open. Which tags do so depends on where they stand, and whoever
//! guesses that otherwise than the cleaner does can be led past every bound. So the cleaner's own tree builder runs here, over
//! a tree of which nothing but the counts is kept. The invariant: what passes has been built once within all bounds below, which
//! are those of a mail and not of each of its pages, and the cleaner does the very same with it.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;

use html5ever::interface::{Attribute, ElementFlags, NodeOrText, QuirksMode, Tracer, TreeSink};
use html5ever::tendril::StrTendril;
use html5ever::tokenizer::{Token, TokenSink, TokenSinkResult};
use html5ever::tree_builder::{TreeBuilder, TreeBuilderOpts};
use html5ever::{ExpandedName, LocalName, QualName, local_name, namespace_url, ns};

use super::html_tokens::{self, Watched};

/// The most elements and formats that may be open at once.
const OPEN_MOST: usize = 512;
/// The most tags of the pages of a mail.
const TAGS_MOST: usize = 100_000;
/// The most elements of their trees.
const ELEMENTS_MOST: usize = 300_000;
/// The most pieces of text that come to the trees: entities and stray brackets part them.
const TEXTS_MOST: usize = 200_000;
/// The most bytes of attributes in the trees, those of all copies among them.
const ATTRIBUTES_MOST: usize = 8 << 20;
/// What an attribute takes beside its name and value, in bytes.
const ATTRIBUTE: usize = 32;
/// The most nodes that may be passed on the way to the places of others.
const STEPS_MOST: usize = 40_000_000;
/// What it takes to look at one attribute of an element that gets more of them, in such steps.
const ATTRIBUTE_STEPS: usize = 16;

/// What the pages of one mail have cost so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    tags: usize,
    elements: usize,
    texts: usize,
    attributes: usize,
    steps: usize,
}

/// Whether the page can be cleaned within the bounds, beside those before it.
pub(super) fn passes(html: &str, spent: &mut Spent) -> bool {
    let mut costs = Costs { spent: *spent, ..Costs::default() };
    // The element within which the cleaner reads a page.
    let context = costs.node(QualName::new(None, ns!(html), local_name!("div")), None, false);
    let builder = TreeBuilder::new_for_fragment(costs, context, None, TreeBuilderOpts::default());
    let (gate, whole) = html_tokens::feed(html, Gate { builder, open: 0 });
    *spent = gate.builder.sink.spent;
    whole && !gate.full()
}

struct Gate {
    builder: TreeBuilder<Handle, Costs>,
    open: usize,
}

impl Watched for Gate {
    fn full(&self) -> bool {
        self.open > OPEN_MOST || self.builder.sink.spent.too_much()
    }
}

impl TokenSink for Gate {
    type Handle = Handle;

    fn process_token(&mut self, token: Token, line: u64) -> TokenSinkResult<Handle> {
        let tag = matches!(token, Token::TagToken(_));
        let result = self.builder.process_token(token, line);
        if tag {
            self.builder.sink.spent.tags += 1;
            let open = Open::default();
            self.builder.trace_handles(&open);
            self.open = open.0.get();
        }
        result
    }

    fn end(&mut self) {
        self.builder.end();
    }

    fn adjusted_current_node_present_but_not_in_html_namespace(&self) -> bool {
        self.builder.adjusted_current_node_present_but_not_in_html_namespace()
    }
}

/// Counts what the tree builder keeps open.
#[derive(Default)]
struct Open(Cell<usize>);

impl Tracer for Open {
    type Handle = Handle;

    fn trace_handle(&self, _: &Handle) {
        self.0.set(self.0.get() + 1);
    }
}

type Handle = Rc<Node>;

/// What the tree builder asks of a node, and how much there is of it.
struct Node {
    name: QualName,
    /// Of a template: what its contents go to.
    contents: Option<Handle>,
    /// Whether HTML goes on within it, although it is MathML.
    integrates: bool,
    attributes: Cell<usize>,
    children: Cell<usize>,
    /// Whether text that comes next is added to the last child.
    ends_in_text: Cell<bool>,
}

/// What the tree came to so far.
#[derive(Default)]
struct Costs {
    spent: Spent,
    /// No node has more children than this, but for those in `moved`.
    widest: usize,
    /// Nodes that were put before others, wherever that was.
    moved: usize,
}

impl Spent {
    fn too_much(&self) -> bool {
        self.tags > TAGS_MOST
            || self.elements > ELEMENTS_MOST
            || self.texts > TEXTS_MOST
            || self.attributes > ATTRIBUTES_MOST
            || self.steps > STEPS_MOST
    }
}

impl Costs {
    fn node(&mut self, name: QualName, contents: Option<Handle>, integrates: bool) -> Handle {
        let (attributes, children, ends_in_text) = (Cell::new(0), Cell::new(0), Cell::new(false));
        Rc::new(Node { name, contents, integrates, attributes, children, ends_in_text })
    }

    /// A node that is no element: nobody asks for its name.
    fn nameless(&mut self) -> Handle {
        self.node(QualName::new(None, ns!(), LocalName::from("")), None, false)
    }

    fn attributes(&mut self, of: &Node, attributes: &[Attribute]) {
        let bytes = |one: &Attribute| one.name.local.len() + one.value.len() + ATTRIBUTE;
        self.spent.attributes += attributes.iter().map(bytes).sum::<usize>();
        of.attributes.set(of.attributes.get() + attributes.len());
    }

    fn children(&mut self, of: &Node, more: usize) {
        of.children.set(of.children.get() + more);
        self.widest = self.widest.max(of.children.get());
    }

    /// A node is looked for among its siblings: as many as a node has at most.
    fn seek(&mut self) {
        self.spent.steps += self.widest + self.moved;
    }
}

impl TreeSink for Costs {
    type Handle = Handle;
    type Output = Costs;

    fn finish(self) -> Costs {
        self
    }

    fn parse_error(&mut self, _: Cow<'static, str>) {}

    fn get_document(&mut self) -> Handle {
        self.nameless()
    }

    fn elem_name<'a>(&'a self, target: &'a Handle) -> ExpandedName<'a> {
        target.name.expanded()
    }

    fn create_element(&mut self, name: QualName, attrs: Vec<Attribute>, flags: ElementFlags) -> Handle {
        self.spent.elements += 1;
        let contents = flags.template.then(|| self.nameless());
        let element = self.node(name, contents, flags.mathml_annotation_xml_integration_point);
        self.attributes(&element, &attrs);
        element
    }

    fn create_comment(&mut self, _: StrTendril) -> Handle {
        self.spent.elements += 1;
        self.nameless()
    }

    fn create_pi(&mut self, _: StrTendril, _: StrTendril) -> Handle {
        self.spent.elements += 1;
        self.nameless()
    }

    fn append(&mut self, parent: &Handle, child: NodeOrText<Handle>) {
        let text = matches!(child, NodeOrText::AppendText(_));
        self.spent.texts += usize::from(text);
        let merged = parent.ends_in_text.replace(text) && text;
        self.children(parent, usize::from(!merged));
    }

    fn append_before_sibling(&mut self, _: &Handle, child: NodeOrText<Handle>) {
        self.spent.texts += usize::from(matches!(child, NodeOrText::AppendText(_)));
        self.moved += 1;
        // Once for its new place and once for the one that it had.
        self.seek();
        self.seek();
    }

    fn append_based_on_parent_node(&mut self, element: &Handle, _: &Handle, child: NodeOrText<Handle>) {
        self.append_before_sibling(element, child);
    }

    fn append_doctype_to_document(&mut self, _: StrTendril, _: StrTendril, _: StrTendril) {}

    fn get_template_contents(&mut self, target: &Handle) -> Handle {
        target.contents.clone().unwrap_or_else(|| target.clone())
    }

    fn same_node(&self, x: &Handle, y: &Handle) -> bool {
        Rc::ptr_eq(x, y)
    }

    fn set_quirks_mode(&mut self, _: QuirksMode) {}

    fn add_attrs_if_missing(&mut self, target: &Handle, attrs: Vec<Attribute>) {
        self.spent.steps += ATTRIBUTE_STEPS * target.attributes.get();
        self.attributes(target, &attrs);
    }

    fn remove_from_parent(&mut self, _: &Handle) {
        self.seek();
    }

    fn reparent_children(&mut self, node: &Handle, new_parent: &Handle) {
        self.seek();
        self.children(new_parent, node.children.replace(0));
        node.ends_in_text.set(false);
        new_parent.ends_in_text.set(false);
    }

    fn is_mathml_annotation_xml_integration_point(&self, target: &Handle) -> bool {
        target.integrates
    }
}
