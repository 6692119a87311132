with

blocks as (

    select
        'blocked_recommendations' as seed,
        product_id,
        recommended_product_id,
        null as pin_position,
        {{ first_day() }} as first_day,
        {{ last_day() }} as last_day
    from {{ ref('blocked_recommendations') }}

),

pins as (

    select
        'pinned_recommendations' as seed,
        product_id,
        recommended_product_id,
        position as pin_position,
        {{ first_day() }} as first_day,
        {{ last_day() }} as last_day,
        row_number() over (
            order by
                product_id, recommended_product_id, position, starts_on, ends_on, reason
        ) as pin_number
    from {{ ref('pinned_recommendations') }}

),

steering as (

    select
        seed,
        product_id,
        recommended_product_id,
        pin_position,
        first_day,
        last_day
    from blocks

    union all

    select
        seed,
        product_id,
        recommended_product_id,
        pin_position,
        first_day,
        last_day
    from pins

),

current_steering as (

    select * from steering
    where last_day >= {{ as_of_day() }}

),

recommendable_products as (

    select catalogue.product_id
    from {{ ref('stg_products') }} as catalogue
    anti join {{ ref('excluded_products') }} as excluded_products
        on catalogue.product_id = excluded_products.product_id

),

products as (

    select product_id from recommendable_products

    union

    select product_id from {{ ref('int_products_keyed') }}

),

problems as (

    select
        'is recommended, but is not in the product list or is excluded' as problem,
        current_steering.seed,
        current_steering.product_id,
        current_steering.recommended_product_id
    from current_steering
    anti join recommendable_products
        on current_steering.recommended_product_id = recommendable_products.product_id

    union all

    select
        'is neither in the product list nor bought, or is excluded' as problem,
        current_steering.seed,
        current_steering.product_id,
        current_steering.recommended_product_id
    from current_steering
    anti join products
        on current_steering.product_id = products.product_id
    where
        current_steering.product_id is not null
        or current_steering.seed = 'pinned_recommendations'

    union all

    select
        'is with itself' as problem,
        seed,
        product_id,
        recommended_product_id
    from current_steering
    where product_id = recommended_product_id

    union all

    select
        'has a position that no list has' as problem,
        seed,
        product_id,
        recommended_product_id
    from current_steering
    where
        seed = 'pinned_recommendations'
        and coalesce(pin_position, 0) not between 1 and {{ var('recommendations_per_product') }}

    union all

    select
        'is pinned twice, or has its position twice' as problem,
        pin.seed,
        pin.product_id,
        pin.recommended_product_id
    from pins as pin
    inner join pins as other_pin
        on
            pin.product_id = other_pin.product_id
            and pin.pin_number < other_pin.pin_number
    where
        (
            pin.pin_position = other_pin.pin_position
            or pin.recommended_product_id = other_pin.recommended_product_id
        )
        and least(pin.last_day, other_pin.last_day)
        >= greatest(pin.first_day, other_pin.first_day, {{ as_of_day() }})

    union all

    select
        'is pinned and blocked on the same days' as problem,
        pins.seed,
        pins.product_id,
        pins.recommended_product_id
    from pins
    inner join blocks
        on
            pins.recommended_product_id = blocks.recommended_product_id
            and pins.product_id = coalesce(blocks.product_id, pins.product_id)
    where
        least(pins.last_day, blocks.last_day)
        >= greatest(pins.first_day, blocks.first_day, {{ as_of_day() }})

    union all

    select
        'ends before it starts' as problem,
        seed,
        product_id,
        recommended_product_id
    from steering
    where last_day < first_day

)

select * from problems
