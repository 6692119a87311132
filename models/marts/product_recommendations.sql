-- depends_on: {{ ref('int_data_measured') }}: refused data do not replace this table.
with

found as (

    select
        product_id,
        recommended_product_id,
        recommended_basket_count,
        copurchase_count
    from {{ ref('int_recommendations_found') }}

),

filled as (

    select
        product_id,
        recommended_product_id,
        recommendation_source,
        fill_rank
    from {{ ref('int_recommendations_filled') }}

),

pinned as (

    select
        product_id,
        recommended_product_id,
        pin_position
    from {{ ref('int_recommendations_pinned') }}

),

products as (

    select
        product_id,
        product_number
    from {{ ref('int_products_keyed') }}

),

catalogue as (

    select
        product_id,
        category_code,
        product_name
    from {{ ref('stg_products') }}

),

added as (

    select
        product_id,
        recommended_product_id,
        recommendation_source,
        fill_rank,
        null as pin_position
    from filled

    union all

    select
        product_id,
        recommended_product_id,
        'pinned' as recommendation_source,
        null as fill_rank,
        pin_position
    from pinned

),

added_numbers as (

    select
        added.product_id,
        added.recommended_product_id,
        product.product_number,
        recommended_product.product_number as recommended_product_number
    from added
    inner join products as product
        on added.product_id = product.product_id
    inner join products as recommended_product
        on added.recommended_product_id = recommended_product.product_id

),

directed as not materialized (

    {{ directed_pairs(ref('int_product_pairs_counted')) }}

),

added_counts as (

    select
        added_numbers.product_id,
        added_numbers.recommended_product_id,
        directed.copurchase_count
    from directed
    inner join added_numbers
        on
            directed.product_number = added_numbers.product_number
            and directed.other_product_number = added_numbers.recommended_product_number

),

added_and_counted as (

    select
        added.product_id,
        added.recommended_product_id,
        coalesce(added_counts.copurchase_count, 0) as copurchase_count,
        added.recommendation_source,
        added.fill_rank,
        added.pin_position
    from added
    left join added_counts
        on
            added.product_id = added_counts.product_id
            and added.recommended_product_id = added_counts.recommended_product_id

),

unpinned as (

    select
        found.product_id,
        found.recommended_product_id,
        found.recommended_basket_count,
        found.copurchase_count,
        'copurchase' as recommendation_source,
        0 as fill_rank
    from found
    anti join pinned
        on
            found.product_id = pinned.product_id
            and found.recommended_product_id = pinned.recommended_product_id

    union all

    select
        product_id,
        recommended_product_id,
        null as recommended_basket_count,
        copurchase_count,
        recommendation_source,
        fill_rank
    from added_and_counted
    where fill_rank is not null

),

placed as (

    select
        product_id,
        recommended_product_id,
        copurchase_count,
        recommendation_source,
        row_number() over (
            partition by product_id
            order by
                fill_rank asc,
                copurchase_count desc,
                recommended_basket_count desc,
                recommended_product_id asc
        ) as place
    from unpinned
    qualify place <= {{ var('recommendations_per_product') }}

),

-- Lists with pins: a pin's place is that of the product which it stands before.
merged as (

    select
        placed.*,
        null as pin_position
    from placed
    semi join pinned
        on placed.product_id = pinned.product_id

    union all

    select
        product_id,
        recommended_product_id,
        copurchase_count,
        recommendation_source,
        pin_position + 1
        - row_number() over (partition by product_id order by pin_position) as place,
        pin_position
    from added_and_counted
    where pin_position is not null

),

ranked as (

    select
        placed.product_id,
        placed.recommended_product_id,
        placed.copurchase_count,
        placed.recommendation_source,
        placed.place as recommendation_rank
    from placed
    anti join pinned
        on placed.product_id = pinned.product_id

    union all

    select
        product_id,
        recommended_product_id,
        copurchase_count,
        recommendation_source,
        row_number() over (
            partition by product_id
            order by
                place asc,
                pin_position asc nulls last
        ) as recommendation_rank
    from merged
    qualify recommendation_rank <= {{ var('recommendations_per_product') }}

),

named as (

    select
        ranked.product_id,
        ranked.recommendation_rank::integer as recommendation_rank,
        ranked.recommended_product_id,
        catalogue.product_name as recommended_product_name,
        catalogue.category_code as recommended_category_code,
        ranked.copurchase_count,
        ranked.recommendation_source
    from ranked
    inner join catalogue
        on ranked.recommended_product_id = catalogue.product_id

)

select * from named
order by
    product_id,
    recommendation_rank
